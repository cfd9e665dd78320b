//! Published files read back, row by row.
//!
//! Tolerant of nothing: a file that is torn, empty, or packed in another way than its name says is an error that names it.

use std::{
    fs::Metadata,
    io::{self, BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, de::Error as _};
use superhero_files::Folder;
use superhero_text::shown;
use thiserror::Error;

use crate::layout::Compression;

const BUFFER_BYTES: usize = 128 * 1024;

/// More than any row that a worker writes: one of a record of 16 MiB, all of it a key of control characters, takes six times as much. What a
/// file unfolds to is another's to say, so that reading it needs a bound of its own.
pub const MAX_ROW_BYTES: usize = 128 * 1024 * 1024;

/// Why a published file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system's reason, or the decoder's: a torn file ends unexpectedly.
    #[error("cannot read {} after {rows} rows: {source}", shown::path(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// Rows read before.
        rows: u64,
        /// Why.
        source: io::Error,
    },
    /// No worker has written it.
    #[error("row {row} of {} has more than {MAX_ROW_BYTES} bytes, and no worker writes such a one", shown::path(path))]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        row: u64,
    },
    /// The name ends neither with `.jsonl` nor with `.jsonl.gz`.
    #[error("{} is no file of rows: its name ends neither with .jsonl nor with .jsonl.gz", shown::path(path))]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The last row has no line feed, or there is no row at all.
    #[error("{} is torn after {rows} rows: its last row is not complete", shown::path(path))]
    Torn {
        /// The file.
        path: PathBuf,
        /// Complete rows.
        rows: u64,
    },
    /// The row is not of the form that it should have.
    #[error("row {row} of {} is not a raw row: {source}", shown::path(path))]
    Row {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        row: u64,
        /// Why.
        source: serde_json::Error,
    },
}

/// Opens a `.jsonl` or `.jsonl.gz` file, a regular one, to whose name itself no link leads.
///
/// # Errors
/// [`ReadError::Io`], also for a FIFO, a device and the like, which are not waited for; [`ReadError::Foreign`].
pub fn read_rows(path: &Path) -> Result<Rows, ReadError> {
    Ok(read_rows_below(path.parent().unwrap_or(Path::new("")), path)?.0)
}

/// The same for a file below the folder `base`, from which on no link is followed; with what the file system knows of it.
///
/// # Errors
/// As [`read_rows`].
pub fn read_rows_below(base: &Path, path: &Path) -> Result<(Rows, Metadata), ReadError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let gzip = name.ends_with(Compression::Gzip.extension());
    if !gzip && !name.ends_with(Compression::None.extension()) {
        return Err(ReadError::Foreign { path: path.to_owned() });
    }
    let unreadable = |source| ReadError::Io { path: path.to_owned(), rows: 0, source };
    let file = Folder::of(base, path).and_then(|(folder, name)| folder.read(name)).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    let input: Box<dyn BufRead + Send> =
        if gzip { Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(file))) } else { Box::new(file) };
    Ok((Rows { path: path.to_owned(), input, row: Vec::new(), rows: 0, ended: false }, metadata))
}

/// The rows of a file, without their line feeds. Iterating copies each; [`Rows::next_row`] lends it.
pub struct Rows {
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    row: Vec<u8>,
    rows: u64,
    ended: bool,
}

impl Rows {
    /// The next row, or none at the end of a complete file. After an error there are no more.
    pub fn next_row(&mut self) -> Result<Option<&[u8]>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        self.row.clear();
        let path = || self.path.clone();
        // The line feed is not the row's.
        let mut input = (&mut self.input).take(MAX_ROW_BYTES as u64 + 1);
        match input.read_until(b'\n', &mut self.row) {
            Ok(0) => {
                self.ended = true;
                if self.rows == 0 { Err(ReadError::Torn { path: path(), rows: 0 }) } else { Ok(None) }
            }
            Ok(_) if self.row.pop() == Some(b'\n') => {
                self.rows += 1;
                Ok(Some(&self.row))
            }
            Ok(bytes) if bytes > MAX_ROW_BYTES => {
                self.ended = true;
                self.row = Vec::new();
                Err(ReadError::TooLong { path: path(), row: self.rows + 1 })
            }
            Ok(_) => {
                self.ended = true;
                Err(ReadError::Torn { path: path(), rows: self.rows })
            }
            Err(source) => {
                self.ended = true;
                Err(ReadError::Io { path: path(), rows: self.rows, source })
            }
        }
    }

    /// The next row's place in Kafka, if this is a file of the raw table. One that there cannot be is an error.
    pub fn next_origin(&mut self) -> Result<Option<Origin>, ReadError> {
        let (path, row) = (self.path.clone(), self.rows + 1);
        let Some(bytes) = self.next_row()? else { return Ok(None) };
        let origin = serde_json::from_slice(bytes).and_then(|origin: Origin| {
            // The one after it has to be an offset, too.
            if (0..i64::MAX).contains(&origin.offset) {
                return Ok(Some(origin));
            }
            Err(serde_json::Error::custom(format!("no record can have the offset {}", origin.offset)))
        });
        origin.map_err(|source| ReadError::Row { path, row, source })
    }
}

impl Iterator for Rows {
    type Item = Result<Vec<u8>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().map(|row| row.map(<[u8]>::to_vec)).transpose()
    }
}

/// The fields of a raw row that tell where its record stood.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Origin {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// `<producer>-<sequence>`; empty, or none in the rows of earlier versions, if the record had none.
    #[serde(default)]
    pub id: Option<String>,
}

impl Origin {
    /// The producer and the sequence number; none if the record had none, or was a copy of another partition's.
    pub fn producer_and_sequence(&self) -> Option<(u128, u64)> {
        let (producer, sequence) = self.id.as_deref()?.split_once('-')?;
        Some((u128::from_str_radix(producer, 16).ok()?, sequence.parse().ok()?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, io::Write as _};

    use flate2::{Compression as Level, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<String>, ReadError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let rows =
            read_rows(&path)?.map(|row| row.map(|row| String::from_utf8(row).unwrap())).collect::<Result<_, _>>();
        if let Err(error) = &rows {
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        rows
    }

    #[test]
    fn rows_are_read_plain_and_packed() {
        let rows = "{\"a\":1}\n\n{\"b\":2}\n";
        assert_eq!(read("x.jsonl", rows.as_bytes()).unwrap(), ["{\"a\":1}", "", "{\"b\":2}"]);
        assert_eq!(read("x.jsonl.gz", &gzip(rows.as_bytes())).unwrap(), ["{\"a\":1}", "", "{\"b\":2}"]);
    }

    #[test]
    fn every_torn_gzip_file_is_an_error() {
        let whole = gzip("row one\nrow two\n".repeat(50).as_bytes());
        for length in 0..whole.len() {
            assert!(read("x.jsonl.gz", &whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
        let trailing = [whole.as_slice(), b"garbage"].concat();
        assert!(read("x.jsonl.gz", &trailing).is_err());
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(read("x.jsonl.gz", &flipped).is_err());
    }

    #[test]
    fn a_last_row_without_line_feed_and_a_file_without_rows_are_torn() {
        assert!(matches!(read("x.jsonl", b"one\ntw"), Err(ReadError::Torn { rows: 1, .. })));
        assert!(matches!(read("x.jsonl", b""), Err(ReadError::Torn { rows: 0, .. })));
        assert!(matches!(read("x.jsonl.gz", &gzip(b"one\ntw")), Err(ReadError::Torn { rows: 1, .. })));
        assert!(matches!(read("x.csv", b"one\n"), Err(ReadError::Foreign { .. })));
    }

    #[test]
    fn a_row_is_as_long_as_any_that_a_worker_writes_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl.gz");
        let mut packed = GzEncoder::new(fs::File::create(&path).unwrap(), Level::fast());
        let part = [b'a'; 1 << 16];
        for length in [MAX_ROW_BYTES, MAX_ROW_BYTES + 1] {
            for _ in 0..length / part.len() {
                packed.write_all(&part).unwrap();
            }
            packed.write_all(&part[..length % part.len()]).unwrap();
            packed.write_all(b"\n").unwrap();
        }
        packed.finish().unwrap();
        let mut rows = read_rows(&path).unwrap();
        assert_eq!(rows.next_row().unwrap().map(<[u8]>::len), Some(MAX_ROW_BYTES));
        let message = rows.next_row().unwrap_err().to_string();
        assert!(message.contains("row 2 of") && message.contains("more than 134217728 bytes"), "{message}");
        assert!(rows.next_row().unwrap().is_none());
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(read_rows(&path).err().unwrap().to_string().contains("it is a socket, not a regular file"));
        let link = dir.path().join("y.jsonl");
        std::os::unix::fs::symlink("x.jsonl", &link).unwrap();
        assert!(read_rows(&link).err().unwrap().to_string().contains("y.jsonl is a link"));
    }

    #[test]
    fn a_raw_row_tells_where_its_record_stood() {
        let origin = |row: &str| serde_json::from_str::<Origin>(row).unwrap();
        let known = origin(
            r#"{"topic":"t","partition":1,"offset":5,"id":"000000000000000000000000000000ff-3","value":{"offset":9}}"#,
        );
        assert_eq!((known.offset, known.producer_and_sequence()), (5, Some((255, 3))));
        for id in [r#""""#, "null", r#""000000000000000000000000000000ff-3@t/2""#] {
            let unknown = origin(&format!(r#"{{"topic":"t","partition":1,"offset":5,"key":"k","id":{id}}}"#));
            assert_eq!(unknown.producer_and_sequence(), None);
        }
    }
    #[test]
    fn a_place_that_no_record_can_have_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        for (offset, is_one) in
            [("-1", false), ("0", true), ("9223372036854775806", true), ("9223372036854775807", false)]
        {
            fs::write(&path, format!("{{\"topic\":\"t\",\"partition\":1,\"offset\":{offset}}}\n")).unwrap();
            match read_rows(&path).unwrap().next_origin() {
                Ok(Some(origin)) => assert!(is_one && origin.offset.to_string() == offset, "{offset}"),
                Err(error) => {
                    let message = error.to_string();
                    assert!(!is_one && message.contains("row 1 of") && message.ends_with(offset), "{message}");
                }
                Ok(None) => panic!("{offset}"),
            }
        }
    }
}
