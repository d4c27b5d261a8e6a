//! Decoders against what real tools write: whole, cut, damaged, in several members, and with windows that are too large.

use std::io::{Cursor, Read as _, Write as _};
use std::process::{Command, Stdio};

use harmonia_protocol::narinfo::Compression;

use super::*;

/// Text that compresses to some dozen bytes, and is longer than a decoder's piece.
fn text() -> Vec<u8> {
    b"harmonia ".repeat(30)
}

/// Compresses with a tool; `None` if it is not installed.
fn compressed(tool: &[&str], plain: &[u8]) -> Option<Vec<u8>> {
    let spawned = Command::new(tool[0]).args(&tool[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let plain = plain.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&plain));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{tool:?}");
    Some(output.stdout)
}

fn decode(compression: Compression, file: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    decoder(compression, Cursor::new(file.to_vec()))?.read_to_end(&mut plain)?;
    Ok(plain)
}

/// The text of [`text`] as brotli at quality 11 writes it: there is mostly no tool for it.
const BROTLI: &[u8] = include_bytes!("text.br");

/// Files by each tool that is installed.
fn files() -> Vec<(Compression, Vec<u8>)> {
    let tools: [(Compression, &[&str]); 8] = [
        (Compression::Xz, &["xz", "-c"]),
        (Compression::Xz, &["xz", "-T2", "--block-size=100", "-c"]),
        (Compression::Xz, &["xz", "--check=sha256", "--x86", "--lzma2=dict=1MiB", "-c"]),
        (Compression::Zstd, &["zstd", "-q", "-c"]),
        (Compression::Zstd, &["zstd", "-q", "--ultra", "-22", "--check", "-c"]),
        (Compression::Bzip2, &["bzip2", "-c"]),
        (Compression::Gzip, &["gzip", "-c"]),
        (Compression::Lzip, &["lzip", "-c"]),
    ];
    let mut files: Vec<_> =
        tools.into_iter().filter_map(|(compression, tool)| Some((compression, compressed(tool, &text())?))).collect();
    assert!(!files.is_empty(), "no tool is installed");
    files.push((Compression::Brotli, BROTLI.to_vec()));
    files
}

#[test]
fn what_tools_write_is_decoded() {
    for (compression, file) in files() {
        assert_eq!(decode(compression, &file).unwrap(), text(), "{compression:?}");
    }
    assert_eq!(decode(Compression::None, b"plain").unwrap(), b"plain");
}

#[test]
fn a_large_file_is_decoded() {
    let plain: Vec<u8> = (0..1_000_000_u32).flat_map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes()).collect();
    let tools: [(Compression, &[&str]); 5] = [
        (Compression::Xz, &["xz", "-1", "-c"]),
        (Compression::Zstd, &["zstd", "-q", "-c"]),
        (Compression::Bzip2, &["bzip2", "-1", "-c"]),
        (Compression::Gzip, &["gzip", "-1", "-c"]),
        (Compression::Lzip, &["lzip", "-1", "-c"]),
    ];
    for (compression, tool) in tools {
        let Some(file) = compressed(tool, &plain) else { continue };
        assert!(decode(compression, &file).unwrap() == plain, "{compression:?}");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_an_error() {
    for (compression, file) in files() {
        for end in 0..file.len() {
            let decoded = decode(compression, &file[..end]);
            // An empty file of these is empty, which is no NAR.
            let is_empty = end == 0 && decoded.as_ref().is_ok_and(Vec::is_empty);
            assert!(decoded.is_err() || is_empty, "{compression:?} cut at {end} of {}", file.len());
        }
    }
}

#[test]
fn members_in_a_row_are_one_file() {
    for (compression, file) in files().into_iter().filter(|(compression, _)| *compression != Compression::Brotli) {
        assert_eq!(decode(compression, &file.repeat(3)).unwrap(), text().repeat(3), "{compression:?}");
    }
}

#[test]
fn anything_else_after_the_end_is_an_error() {
    for (compression, file) in files() {
        for garbage in [&b"x"[..], b"garbage garbage garbage", &[0xff; 100]] {
            assert!(decode(compression, &[&file, garbage].concat()).is_err(), "{compression:?} {garbage:?}");
        }
    }
}

#[test]
fn no_damaged_byte_makes_a_decoder_panic_or_run_for_ever() {
    for (compression, file) in files() {
        for at in 0..file.len() {
            for bit in [1, 0x80] {
                let mut damaged = file.clone();
                damaged[at] ^= bit;
                let mut plain = Vec::new();
                if let Ok(decoder) = decoder(compression, Cursor::new(damaged)) {
                    let _ = decoder.take(1 << 20).read_to_end(&mut plain);
                }
            }
        }
    }
}

#[test]
fn windows_up_to_the_limits_are_decoded_and_others_refused() {
    let tools: [(Compression, &[&str]); 2] =
        [(Compression::Zstd, &["zstd", "-q", "--long=27", "-c"]), (Compression::Xz, &["xz", "-9", "-c"])];
    for (compression, tool) in tools {
        let Some(file) = compressed(tool, &text()) else { continue };
        assert_eq!(decode(compression, &file).unwrap(), text(), "{tool:?}");
    }
    let tools: [(Compression, &[&str]); 3] = [
        (Compression::Zstd, &["zstd", "-q", "--long=28", "-c"]),
        (Compression::Xz, &["xz", "--lzma2=dict=65MiB", "-c"]),
        (Compression::Lzip, &["lzip", "-s", "128MiB", "-c"]),
    ];
    for (compression, tool) in tools {
        let Some(mut file) = compressed(tool, &text()) else { continue };
        if compression == Compression::Lzip {
            // lzip shrinks the dictionary in the header to the size of the file.
            file[5] = 27;
        }
        assert!(decode(compression, &file).is_err(), "{tool:?}");
    }
}

#[test]
fn an_error_of_the_disk_is_not_one_of_the_file() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk"))
        }
    }
    let all = [
        Compression::None,
        Compression::Zstd,
        Compression::Xz,
        Compression::Bzip2,
        Compression::Gzip,
        Compression::Brotli,
        Compression::Lzip,
    ];
    for compression in all {
        let error = decoder(compression, Failing).unwrap().read(&mut [0; 100]).unwrap_err();
        assert!(is_of_file(&error), "{compression:?}: {error:?}");
        let Err(error) = decode(compression, b"no such format") else { continue };
        assert!(!is_of_file(&error), "{compression:?}: {error:?}");
    }
}
