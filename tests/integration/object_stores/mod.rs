//! Object stores that the tests run: what each does and does not, by requests of the tests' own client, and how plain Nix reads
//! a bucket.

mod bucket_of;
mod commands;
mod fault_proxy;
mod garbage;
mod moto;
mod plain_nix;
mod rclone;
mod swift;
mod swift_nodes;
