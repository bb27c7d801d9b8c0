//! The lifeline's form: one JSON value per line, each line bounded. Turns a byte stream into values
//! and values into lines. It must not know what the values mean, or which end of the lifeline it
//! is.

use serde::{Serialize, de::DeserializeOwned};
use std::{io, marker::PhantomData};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use zeroize::Zeroizing;

/// A line is at most this long, its end included, bytes.
pub(crate) const MAX_LINE_BYTES: usize = 256 * 1024;

/// A line that is none. The texts never quote the line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the stream broke")]
    Broken(#[from] io::Error),
    #[error("a line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("a line has no end")]
    Unfinished,
    #[error("a line says something unknown")]
    Unknown,
}

/// The values of type `T` on a stream.
#[derive(Debug)]
pub(crate) struct JsonLines<R, T> {
    stream: BufReader<R>,
    /// What has come of the next line: kept here, so that waiting for it can be given up.
    partial: Vec<u8>,
    value: PhantomData<fn() -> T>,
}

impl<R: AsyncRead + Unpin, T: DeserializeOwned> JsonLines<R, T> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream: BufReader::new(stream), partial: Vec::new(), value: PhantomData }
    }

    /// The next value; none at the end of the stream. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, LineError> {
        let room = MAX_LINE_BYTES.saturating_sub(self.partial.len());
        let mut bounded = (&mut self.stream).take(u64::try_from(room).unwrap_or(u64::MAX));
        bounded.read_until(b'\n', &mut self.partial).await?;
        // it may hold a credential
        let line = Zeroizing::new(std::mem::take(&mut self.partial));
        match line.last() {
            None => Ok(None),
            Some(b'\n') => serde_json::from_slice(&line).map(Some).map_err(|_| LineError::Unknown),
            Some(_) if line.len() >= MAX_LINE_BYTES => Err(LineError::TooLong),
            Some(_) => Err(LineError::Unfinished),
        }
    }
}

/// The line of a value.
pub(crate) fn line(value: &impl Serialize) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(value).map_err(|_| LineError::Unknown)?;
    line.push(b'\n');
    if line.len() > MAX_LINE_BYTES {
        return Err(LineError::TooLong);
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn values_come_in_order_and_the_end_is_told_from_a_torn_line() {
        let mut lines = JsonLines::<_, u32>::new(&b"1\n22\n"[..]);
        assert_eq!(lines.next().await.unwrap(), Some(1));
        assert_eq!(lines.next().await.unwrap(), Some(22));
        assert_eq!(lines.next().await.unwrap(), None);
        let torn = JsonLines::<_, u32>::new(&b"1"[..]).next().await;
        assert!(matches!(torn, Err(LineError::Unfinished)));
        let unknown = JsonLines::<_, u32>::new(&b"\"x\"\n"[..]).next().await;
        assert!(matches!(unknown, Err(LineError::Unknown)));
    }

    #[tokio::test]
    async fn waiting_that_was_given_up_loses_nothing() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut lines = JsonLines::<_, u32>::new(reader);
        writer.write_all(b"12").await.unwrap();
        tokio::select! {
            biased;
            value = lines.next() => panic!("{value:?}"),
            () = tokio::task::yield_now() => {}
        }
        writer.write_all(b"34\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap(), Some(1234));
    }

    #[tokio::test]
    async fn a_line_is_bounded_in_both_directions() {
        let endless = JsonLines::<_, String>::new(tokio::io::repeat(b'x')).next().await;
        assert!(matches!(endless, Err(LineError::TooLong)));

        let longest = "x".repeat(MAX_LINE_BYTES - 3);
        let text = line(&longest).unwrap();
        assert_eq!(text.len(), MAX_LINE_BYTES);
        let read = JsonLines::<_, String>::new(&text[..]).next().await.unwrap();
        assert_eq!(read, Some(longest));
        assert!(matches!(line(&"x".repeat(MAX_LINE_BYTES)), Err(LineError::TooLong)));
    }
}
