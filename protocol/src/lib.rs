//! What Nix specifies for a binary cache's server: nix-daemon's worker protocol, the types it speaks in, NAR, narinfo.

pub mod hash;
pub mod nix32;
pub mod signature;
pub mod store_path;

pub use store_path::{HashPart, StoreDir, StorePath};
