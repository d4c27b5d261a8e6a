//! Access: what real clients get of a store of which they may see a part.

mod views;
