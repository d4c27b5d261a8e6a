//! HTML pages for people: their frame, style and script.

pub(crate) mod escape;
pub(crate) mod page;
