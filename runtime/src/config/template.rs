//! `${unit.attribute}` in texts.
//!
//! | written | means |
//! |---|---|
//! | `${api.port}` | the attribute |
//! | `$$` | one `$` |
//! | `$x`, `$(x)`, `$` at the end | itself |
//! | `${HOME}`, `${A:-b}`, `${` | an error: the shell's forms belong in `sh` |
//!
//! Nothing here reads an environment or a file.

use envctl_supervisors::{Name, NameError};

use crate::spec::{Piece, Template};

/// Why a text is not a template. Offsets are bytes in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `${` without `}`.
    #[error("`${{` has no `}}`")]
    Unclosed {
        /// Where it begins.
        offset: usize,
    },
    /// `${HOME}`.
    #[error("`${{{text}}}` names no attribute")]
    NoAttribute {
        /// What stands between the braces.
        text: String,
    },
    /// `${A.b}`.
    #[error("`${{{text}}}` names no unit: {error}")]
    BadUnit {
        /// What stands between the braces.
        text: String,
        /// Why the unit's name is none.
        error: NameError,
    },
}

/// Reads a template. Adjacent text is one piece, empty text is none.
pub fn parse(text: &str) -> Result<Template, TemplateError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        literal.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            literal.push('$');
            rest = tail;
        } else if let Some(inside) = after.strip_prefix('{') {
            let offset = text.len() - inside.len() - 2;
            let end = inside.find('}').ok_or(TemplateError::Unclosed { offset })?;
            push_text(&mut pieces, &mut literal);
            pieces.push(reference(&inside[..end])?);
            rest = &inside[end + 1..];
        } else {
            literal.push('$');
            rest = after;
        }
    }
    literal.push_str(rest);
    push_text(&mut pieces, &mut literal);
    Ok(Template { pieces })
}

fn push_text(pieces: &mut Vec<Piece>, literal: &mut String) {
    if !literal.is_empty() {
        pieces.push(Piece::Text(std::mem::take(literal)));
    }
}

fn reference(text: &str) -> Result<Piece, TemplateError> {
    let split = text.split_once('.').filter(|(unit, attribute)| !unit.is_empty() && !attribute.is_empty());
    let Some((unit, attribute)) = split else {
        return Err(TemplateError::NoAttribute { text: text.to_owned() });
    };
    match Name::new(unit) {
        Ok(unit) => Ok(Piece::Attribute { unit, attribute: attribute.to_owned() }),
        Err(error) => Err(TemplateError::BadUnit { text: text.to_owned(), error }),
    }
}
