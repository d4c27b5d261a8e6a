//! Tests of the parser, the writer and the index together.

mod layout;
mod parser;
mod properties;
