//! Images: fetched if they are missing, with progress told. A fetch is no failed start and has a deadline of its own.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::engine::Engine;
use super::error::EngineError;
use crate::unit::{Reporter, UnitReport};

/// Longest fetch: the largest images are some gigabytes.
const FETCH_WITHIN: Duration = Duration::from_secs(1800);
/// Longest silence in a fetch: a registry that answers at all says something every few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How often progress is told: for people, not for machines.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What has come of each layer, in bytes.
#[derive(Debug, Default)]
struct Progress {
    layers: HashMap<String, (i64, i64)>,
}

/// Fetches an image unless it is here.
pub(super) async fn ensure(engine: &Engine, image: &str, report: &Reporter) -> Result<(), EngineError> {
    if engine.has_image(image).await? {
        return Ok(());
    }
    report(UnitReport::Preparing { text: format!("fetching the image {image}"), is_news: true });
    let began = Instant::now();
    fetch(engine, image, report).await?;
    let took = began.elapsed().as_secs();
    report(UnitReport::Preparing { text: format!("the image {image} is here after {took} s"), is_news: true });
    Ok(())
}

async fn fetch(engine: &Engine, image: &str, report: &Reporter) -> Result<(), EngineError> {
    let what = format!("fetch the image {image}");
    let missing = |error: EngineError| match error {
        EngineError::NotFound { said, .. }
        | EngineError::Refused { said, .. }
        | EngineError::ImageMissing { said, .. } => EngineError::ImageMissing { image: image.to_owned(), said },
        other => other,
    };
    let options = CreateImageOptionsBuilder::new().from_image(image).build();
    let mut stream = Box::pin(engine.docker().create_image(Some(options), None, None));
    let (until, mut told, mut progress) = (Instant::now() + FETCH_WITHIN, Instant::now(), Progress::default());
    loop {
        let next = timeout_at(until, timeout(SILENCE_MAX, stream.next())).await;
        match next {
            Err(_) => return Err(EngineError::Timeout { what, within: FETCH_WITHIN }),
            Ok(Err(_)) => return Err(EngineError::Timeout { what, within: SILENCE_MAX }),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(Err(error)))) => return Err(missing(engine.words(&error, &what))),
            Ok(Ok(Some(Ok(info)))) => progress.note(info),
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            report(UnitReport::Preparing { text: progress.text(image), is_news: false });
        }
    }
}

// === impl Progress ===

impl Progress {
    fn note(&mut self, info: CreateImageInfo) {
        let (Some(layer), Some(detail)) = (info.id, info.progress_detail) else { return };
        // Unpacking counts from the beginning again: only what comes over the net is shown.
        if info.status.as_deref() != Some("Downloading") {
            return;
        }
        if let (Some(current), Some(total)) = (detail.current, detail.total) {
            self.layers.insert(layer, (current, total));
        }
    }

    fn text(&self, image: &str) -> String {
        let (current, total) = self.layers.values().fold((0, 0), |(c, t), (current, total)| (c + current, t + total));
        if total <= 0 {
            return format!("fetching the image {image}");
        }
        let megabytes = |bytes: i64| bytes / 1_000_000;
        format!("fetching the image {image}: {} of {} MB", megabytes(current), megabytes(total))
    }
}
