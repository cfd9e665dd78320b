//! Published files read back, row by row.
//!
//! Tolerant of nothing: a file that is torn, empty, or packed in another way than its name says is an error that names it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use thiserror::Error;

use crate::layout::Compression;

const BUFFER_BYTES: usize = 128 * 1024;

/// Why a published file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system's reason, or the decoder's: a torn file ends unexpectedly.
    #[error("cannot read {} after {rows} rows: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Rows read before.
        rows: u64,
        /// Why.
        source: io::Error,
    },
    /// The name ends neither with `.jsonl` nor with `.jsonl.gz`.
    #[error("{} is no file of rows: its name ends neither with .jsonl nor with .jsonl.gz", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The last row has no line feed, or there is no row at all.
    #[error("{} is torn after {rows} rows: its last row is not complete", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Complete rows.
        rows: u64,
    },
    /// The row is not of the form that it should have.
    #[error("row {row} of {} is not a raw row: {source}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        row: u64,
        /// Why.
        source: serde_json::Error,
    },
}

/// Opens a `.jsonl` or `.jsonl.gz` file.
pub fn read_rows(path: &Path) -> Result<Rows, ReadError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let gzip = name.ends_with(Compression::Gzip.extension());
    if !gzip && !name.ends_with(Compression::None.extension()) {
        return Err(ReadError::Foreign { path: path.to_owned() });
    }
    let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), rows: 0, source })?;
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    let input: Box<dyn BufRead + Send> =
        if gzip { Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(file))) } else { Box::new(file) };
    Ok(Rows { path: path.to_owned(), input, row: Vec::new(), rows: 0, ended: false })
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
        match self.input.read_until(b'\n', &mut self.row) {
            Ok(0) => {
                self.ended = true;
                if self.rows == 0 { Err(ReadError::Torn { path: path(), rows: 0 }) } else { Ok(None) }
            }
            Ok(_) if self.row.pop() == Some(b'\n') => {
                self.rows += 1;
                Ok(Some(&self.row))
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

    /// The next row's place in Kafka, if this is a file of the raw table.
    pub fn next_origin(&mut self) -> Result<Option<Origin>, ReadError> {
        let (path, row) = (self.path.clone(), self.rows + 1);
        let Some(bytes) = self.next_row()? else { return Ok(None) };
        serde_json::from_slice(bytes).map(Some).map_err(|source| ReadError::Row { path, row, source })
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
}
