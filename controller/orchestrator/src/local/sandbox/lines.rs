//! Turns a sandboxed program's output into lines of bounded length: what it writes is not trusted,
//! and one endless line must not fill the controller's memory. This module must not know what the
//! lines mean.

use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// Bytes of a line that are kept; the rest of it is read and dropped.
pub const MAX_LINE_BYTES: usize = 8 * 1024;

/// One line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether the line was longer than [`MAX_LINE_BYTES`].
    pub is_cut: bool,
}

/// The lines of one output.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    is_cut: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// The lines of `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), is_cut: false }
    }

    /// The next line; none at the end. Nothing is lost where the call is cancelled.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                let is_over = self.line.is_empty() && !self.is_cut;
                return Ok(if is_over { None } else { Some(self.take()) });
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let (part, _) = available.split_at(end.unwrap_or(available.len()));
            let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend(part.iter().take(room));
            self.is_cut |= part.len() > room;
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(self.take()));
            }
        }
    }

    fn take(&mut self) -> Line {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line).into_owned();
        Line { text, is_cut: std::mem::take(&mut self.is_cut) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt as _, BufReader};

    async fn all(bytes: &[u8]) -> Vec<(String, bool)> {
        // A small buffer, so that lines come in parts.
        let mut lines = Lines::new(BufReader::with_capacity(7, bytes));
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push((line.text, line.is_cut));
        }
        found
    }

    #[tokio::test]
    async fn lines_are_split_and_an_unfinished_last_one_counts() {
        let found = all(b"one line\n\nlast").await;
        assert_eq!(
            found,
            [("one line".into(), false), (String::new(), false), ("last".into(), false)]
        );
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let mut bytes = vec![b'x'; MAX_LINE_BYTES + 1];
        bytes.extend_from_slice(b"\nnext\n");
        let found = all(&bytes).await;
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].0.len(), found[0].1), (MAX_LINE_BYTES, true));
        assert_eq!(found[1], ("next".into(), false));
    }

    #[tokio::test]
    async fn a_line_of_exactly_the_bound_is_whole() {
        let found = all(&[b'x'; MAX_LINE_BYTES]).await;
        assert_eq!(found, [("x".repeat(MAX_LINE_BYTES), false)]);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_do_no_harm() {
        assert_eq!(all(b"a\xFFb\n").await, [("a\u{FFFD}b".into(), false)]);
    }

    #[tokio::test]
    async fn a_cancelled_read_loses_nothing() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut lines = Lines::new(BufReader::new(reader));
        writer.write_all(b"half").await.unwrap();
        tokio::select! {
            biased;
            line = lines.next() => panic!("there is no whole line yet: {line:?}"),
            () = tokio::task::yield_now() => {}
        }
        writer.write_all(b" whole\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap().text, "half whole");
    }
}
