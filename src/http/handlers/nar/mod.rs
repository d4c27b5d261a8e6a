//! `/nar/….nar`: the NAR of a path, whole, a range of it, or with a `Content-Encoding`; and files of the bucket.

pub(crate) mod bucket_file;
mod bucket_path;
pub(crate) mod compressed;
mod compressed_body;
mod lookup;
mod plain;
mod uncompressed;

pub(crate) use uncompressed::respond;
