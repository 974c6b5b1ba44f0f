//! What to do about a mistake in the notation of a file.
//!
//! The parser says what it met and what it expected; people ask what to write. Its words are matched by their parts, so a
//! parser that words a message differently costs a precise hint and never the hint itself.

/// Parts of the parser's messages with what to write instead; the first that matches is told.
const HINTS: [(&str, &str); 20] = [
    ("unclosed array table", "write the header with one pair of brackets, as in `[services.web]`"),
    ("unclosed table", "close the header with `]`, as in `[services.web]`"),
    ("unclosed inline table", "close the table with `}`, as in `{ a = \"1\" }`"),
    ("unclosed array", "close the array with `]`, as in `[\"a\", \"b\"]`"),
    ("missing comma between array", "put a `,` between the elements, as in `[\"a\", \"b\"]`"),
    ("missing comma between key", "put a `,` between the pairs, as in `{ a = \"1\", b = \"2\" }`"),
    ("extra comma", "take one `,` away"),
    ("duplicate key", "keep one of the two: a key or a header is written once"),
    ("cannot extend", "write all keys of this table in one place"),
    (
        "key with no value",
        "write `=` and a value behind it, as in `name = \"shop\"`; a key of several words goes in quotes",
    ),
    ("missing value", "write a value after `=`: `\"text\"`, `8000`, `true` or `[\"a\", \"b\"]`"),
    ("must be quoted", "write a value after `=`, text in quotes: `\"text\"`, `8000`, `true` or `[\"a\", \"b\"]`"),
    ("unquoted key", "use A-Z, a-z, 0-9, `-` and `_`, or put the key in quotes"),
    ("escape", "write a backslash as `\\\\`, or put the text in '…', where it stands for itself"),
    ("unicode", "write a backslash as `\\\\`, or put the text in '…', where it stands for itself"),
    ("string", "end the text on its line, with the quote it begins with"),
    ("assignment", "write one pair a line, as in `port = 8000`"),
    ("leading zero", "write the number without leading zeros, or in quotes if it is text"),
    ("carriage return", "save the file with line ends of one kind, LF or CRLF"),
    ("recur", "nest fewer arrays and tables into each other"),
];

/// Where the parser's words say nothing that is known.
const FALLBACK: &str = "write one pair a line, as in `port = 8000`, below a header such as `[services.web]`";

/// What to write instead, from the parser's `message`.
pub(super) fn hint(message: &str) -> &'static str {
    HINTS.iter().find(|(part, _)| message.contains(part)).map_or(FALLBACK, |(_, hint)| hint)
}
