//! Rules for the sources, the dependencies and the documentation.

mod architecture;
mod dependencies;
mod documentation;
mod fuzz_corpus;
mod import_circles;
mod links;
