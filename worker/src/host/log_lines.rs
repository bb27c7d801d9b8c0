//! Turns what the MCP server prints into log lines of bounded length.
//! It must not know what the lines mean, or which server prints them.

use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader};

/// A line is cut here, bytes: a server that prints a document must not fill the log or the memory.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// Logs every line of `output` until it ends.
pub(crate) async fn log(output: impl AsyncRead + Unpin, stream: &'static str) {
    let mut output = BufReader::new(output);
    loop {
        match next_line(&mut output).await {
            Ok(Some(line)) => {
                let text = String::from_utf8_lossy(&line);
                tracing::info!(target: "mcp-server", stream, "{}", text.trim_end());
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(stream, %error, "the MCP server's output cannot be read");
                return;
            }
        }
    }
}

/// The next line without its end, cut to [`MAX_LINE_BYTES`]; none at the end of the output.
async fn next_line(output: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut is_empty = true;
    loop {
        let available = output.fill_buf().await?;
        if available.is_empty() {
            return Ok((!is_empty).then_some(line));
        }
        is_empty = false;
        let end = available.iter().position(|&byte| byte == b'\n');
        let text = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        let room = MAX_LINE_BYTES.saturating_sub(line.len());
        line.extend_from_slice(text.get(..room).unwrap_or(text));
        let used = text.len() + usize::from(end.is_some());
        output.consume(used);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(output: &[u8]) -> Vec<Vec<u8>> {
        let mut output = BufReader::with_capacity(16, output);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut output).await.unwrap() {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_split_and_an_unfinished_last_one_is_kept() {
        assert_eq!(lines(b"a\n\nb").await, [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);
        assert_eq!(lines(b"a\n").await, [b"a".to_vec()]);
        assert!(lines(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let mut output = vec![b'x'; MAX_LINE_BYTES * 3];
        output.extend_from_slice(b"\nnext\n");
        let lines = lines(&output).await;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), MAX_LINE_BYTES);
        assert_eq!(lines[1], b"next");
    }
}
