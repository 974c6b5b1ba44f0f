//! The shop: a real project with its own dependencies, a database, a cache and a front end.
//!
//! Both tests install from the package registries, as the project's own tasks do for any user.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Background, Project, TestEnvironment, http_get, http_post, proc, until};

const UP: &[&str] = &["up", "-d", "--wait", "--wait-timeout", "120s"];
const UP_DEADLINE: Duration = Duration::from_secs(150);

#[track_caller]
fn up(project: &Project<'_>) {
    project.start(UP).wait(UP_DEADLINE).ok();
}

/// The URL of a unit, as `endpoints --json` gives it.
#[track_caller]
fn url(project: &Project<'_>, unit: &str) -> String {
    let endpoints = project.envctl(&["endpoints", "--json"]).ok().json();
    let list = endpoints["endpoints"].as_array().cloned().unwrap_or_default();
    let found = list.iter().find(|one| one["unit"] == unit).and_then(|one| one["url"].as_str());
    found.unwrap_or_else(|| panic!("no url of {unit} in {endpoints:#}")).to_owned()
}

fn body(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn the_shop_sells_survives_a_killed_api_and_keeps_its_orders() {
    let env = TestEnvironment::new();
    let shop = env.example("shop", "shop");
    up(&shop);
    for unit in ["postgres", "redis", "api", "web"] {
        assert_eq!(shop.state(unit), "ready", "{unit}");
    }
    let (api, web) = (url(&shop, "api"), url(&shop, "web"));
    let order = body(&http_post(&format!("{api}/orders"), r#"{"item": "tea"}"#).expect("an answer"));
    let read = http_get(&format!("{api}/orders/{}", order["id"])).expect("an answer");
    assert!(read.to_lowercase().contains("x-cache: hit"), "written to PostgreSQL, read through Redis: {read}");
    assert!(http_get(&format!("{web}/")).expect("a page").contains("tea"));

    proc::kill_hard(shop.pid("api"));
    let healed = shop.until("api", "ready again", |unit| unit["restarts"] == 1 && unit["state"] == "ready");
    assert_eq!(url(&shop, "api"), api, "{healed:#}");
    assert_eq!(shop.envctl(&["why", "api"]).ok().stdout.trim_end().lines().count(), 2);
    assert!(http_get(&format!("{web}/")).expect("a page").contains("tea"));

    shop.down();
    let left: Vec<_> = env.processes().into_iter().filter(|one| !one.command.contains("envctl")).collect();
    assert!(left.is_empty(), "down left {left:#?}");
    up(&shop);
    let again = http_get(&format!("{}/orders/{}", url(&shop, "api"), order["id"])).expect("an answer");
    assert_eq!(body(&again)["item"], "tea", "the data is there on the next up");
}

#[test]
fn two_copies_of_the_shop_do_not_get_in_each_others_way() {
    let env = TestEnvironment::new();
    let shops = [env.example("shop", "one"), env.example("shop", "two")];
    let ups: Vec<Background> = shops.iter().map(|shop| shop.start(UP)).collect();
    for up in ups {
        up.wait(UP_DEADLINE).ok();
    }
    for unit in ["postgres", "redis", "api", "web"] {
        assert_ne!(shops[0].port(unit), shops[1].port(unit), "{unit}");
    }
    http_post(&format!("{}/orders", url(&shops[0], "api")), r#"{"item": "only in one"}"#).expect("an answer");
    let other = http_get(&format!("{}/orders", url(&shops[1], "api"))).expect("an answer");
    assert!(!other.contains("only in one"), "{other}");

    let all = shops[0].envctl(&["ps", "--all", "--json"]).ok().json();
    assert_eq!(all["projects"].as_array().map(Vec::len), Some(2), "{all:#}");
    shops[0].down();
    until(Duration::from_secs(5), "the other shop to answer", || {
        http_get(&format!("{}/healthz", url(&shops[1], "api")))
    });
}
