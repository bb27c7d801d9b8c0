//! The search for credentials, one for all suites: secrets become the forms that they may have, and whatever they
//! might have got into (texts, files, a process's memory) becomes the names of those that are in it. It must not know
//! whose they are, nor where they may be.

use anyhow::{Context, ensure};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What a credential at least has; a shorter one would be found by chance.
const SHORTEST: usize = 16;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// What each is, and how it may be written.
    forms: Vec<(String, String)>,
}

/// Something that was found in a file.
#[derive(Debug)]
pub struct Found {
    /// Which secret it is.
    pub what: String,
    /// Where it is.
    pub file: PathBuf,
}

impl Secrets {
    /// These, by name.
    pub fn new(secrets: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for (what, secret) in secrets {
            all.add(what, secret)?;
        }
        Ok(all)
    }

    /// Adds a secret in every form. One that is too short is refused.
    pub fn add(&mut self, what: &str, secret: &str) -> anyhow::Result<()> {
        ensure!(secret.len() >= SHORTEST, "{what} is too short to be looked for");
        self.forms.extend(forms(secret).into_iter().map(|form| (what.to_owned(), form)));
        Ok(())
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self { forms: self.forms.iter().chain(&others.forms).cloned().collect() }
    }

    /// In how many forms it looks.
    pub fn count(&self) -> usize {
        self.forms.len()
    }

    /// Fails if one of them is in a text, which is from `place`.
    pub fn not_in(&self, place: &str, text: &str) -> anyhow::Result<()> {
        let found = self.in_text(text);
        ensure!(found.is_empty(), "{found:?} in {place}");
        Ok(())
    }

    /// Which of them are in a text.
    pub fn in_text(&self, text: &str) -> BTreeSet<&str> {
        let found = self.forms.iter().filter(|(_, form)| text.contains(form.as_str()));
        found.map(|(what, _)| what.as_str()).collect()
    }

    /// Which of them are in the writable memory of a process.
    pub fn in_memory_of(&self, pid: u32) -> anyhow::Result<BTreeSet<&str>> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mut memory = fs::File::open(format!("/proc/{pid}/mem"))?;
        let mut found = BTreeSet::new();
        let mut bytes = Vec::new();
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, rights) = (fields.next().context("maps")?, fields.next().context("maps")?);
            if !rights.starts_with("rw") {
                continue;
            }
            let (from, to) = range.split_once('-').context("maps")?;
            let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
            bytes.clear();
            memory.seek(SeekFrom::Start(from))?;
            // what was unmapped meanwhile ends the reading, and the rest is still looked at
            let _ = memory.by_ref().take(to - from).read_to_end(&mut bytes);
            found.extend(self.in_text(&String::from_utf8_lossy(&bytes)));
        }
        Ok(found)
    }

    /// The files below these directories that have one of them. Fails if a file cannot be read: what was not looked into
    /// proves nothing.
    pub async fn below(&self, directories: &[&Path]) -> anyhow::Result<Vec<Found>> {
        let mut grep = Command::new("grep")
            .args(["--recursive", "--text", "--fixed-strings", "--only-matching", "--null"])
            // the forms are no arguments, which anybody sees
            .args(["--devices=skip", "--file=-"])
            .args(directories)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = grep.stdin.take().context("standard input is piped")?;
        let lines: Vec<_> = self.forms.iter().map(|(_, form)| form.as_str()).collect();
        stdin.write_all(lines.join("\n").as_bytes()).await?;
        drop(stdin);
        let output = grep.wait_with_output().await?;
        // files come and go meanwhile, and a socket is nothing that can be opened
        let complaints = String::from_utf8_lossy(&output.stderr);
        for complaint in complaints.lines() {
            let is_gone = complaint.ends_with(": No such file or directory");
            let is_socket = complaint.ends_with(": No such device or address");
            ensure!(is_gone || is_socket, "{complaint}");
        }
        let mut found = Vec::new();
        for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let middle =
                line.iter().position(|byte| *byte == 0).context("a file's name and a form")?;
            let (file, form) = line.split_at(middle);
            let is_it = |(_, known): &&(String, String)| known.as_bytes() == &form[1..];
            let (what, _) = self.forms.iter().find(is_it).context("something else was found")?;
            let file = PathBuf::from(OsStr::from_bytes(file));
            if !found.iter().any(|it: &Found| it.what == *what && it.file == file) {
                found.push(Found { what: what.clone(), file });
            }
        }
        Ok(found)
    }
}

/// How a secret may be written: as it is, escaped for a URL, as a part of something in base64, and, of a token, its
/// signature alone.
fn forms(secret: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([secret.to_owned(), percent_encoded(secret)]);
    let parts: Vec<_> = secret.split('.').collect();
    if let [_, _, signature] = parts[..] {
        forms.insert(signature.to_owned());
    }
    for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
        // what stands before it shifts it; the first and last characters have bits of what is beside it
        for (shift, unknown) in [(0, 0), (1, 2), (2, 3)] {
            let bytes = [&[0; 2][..shift], secret.as_bytes()].concat();
            let text = encoding.encode(&bytes);
            let end = text.len() - usize::from(bytes.len() % 3 != 0);
            forms.insert(text[unknown..end].to_owned());
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

pub(crate) fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped = text.bytes().map(|byte| match byte {
        plain if is_plain(plain) => char::from(plain).to_string(),
        other => format!("%{other:02X}"),
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[test]
    fn a_secret_is_known_wherever_it_stands_in_something_encoded() {
        let secret = "ASIA/secret+key=of.somebody";
        let forms = forms(secret);
        for before in ["", "x", "Bearer ", "{\"token\":\""] {
            for after in ["", "\"", "\"}"] {
                let whole = format!("{before}{secret}{after}");
                for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
                    let text = encoding.encode(whole.as_bytes());
                    assert!(forms.iter().any(|form| text.contains(form)), "{whole}");
                }
            }
        }
        assert!(forms.contains("ASIA%2Fsecret%2Bkey%3Dof.somebody"));
    }

    #[test]
    fn a_tokens_signature_alone_is_known() {
        assert!(forms("head.claims.the-signature-of-it").contains("the-signature-of-it"));
    }

    #[test]
    fn what_is_too_short_is_refused_because_it_would_be_found_by_chance() {
        assert!(Secrets::new(&[("it", "short")]).is_err());
    }

    #[test]
    fn a_secret_that_is_planted_in_a_text_is_found_and_its_words_are_not_repeated() {
        let secrets =
            Secrets::new(&[("it", "secret-of-somebody"), ("other", "secret-of-nobody")]).unwrap();
        let text = format!("Basic {}", BASE64_NOPAD.encode(b"user:secret-of-somebody"));
        assert_eq!(secrets.in_text(&text), BTreeSet::from(["it"]));
        let told = secrets.not_in("the log", &text).unwrap_err().to_string();
        assert!(told.contains("the log") && !told.contains("somebody"), "{told}");
        secrets.not_in("the log", "secret-of-some other body").unwrap();
    }

    #[tokio::test]
    async fn a_secret_that_is_planted_in_a_file_is_found_in_whatever_surrounds_it()
    -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let below = directory.path().join("a/b");
        fs::create_dir_all(&below)?;
        fs::write(below.join("binary"), b"\0\xff\xfe\n\0secret-of-somebody\0\xff")?;
        fs::write(below.join("other"), "secret-of-nobody")?;
        let _socket = std::os::unix::net::UnixListener::bind(below.join("socket"))?;
        let secrets = Secrets::new(&[("it", "secret-of-somebody")])?;
        let found = secrets.below(&[directory.path()]).await?;
        ensure!(found.len() == 1 && found[0].file == below.join("binary"), "{found:?}");
        ensure!(found[0].what == "it");
        Ok(())
    }

    #[tokio::test]
    async fn a_secret_that_is_planted_in_a_process_is_found_in_its_memory() -> anyhow::Result<()> {
        let mut process = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (mut to, mut from) =
            (process.stdin.take().context("piped")?, process.stdout.take().context("piped")?);
        let planted = "secret-of-somebody";
        to.write_all(planted.as_bytes()).await?;
        let mut said = vec![0; planted.len()];
        from.read_exact(&mut said).await?;
        let pid = process.id().context("it runs")?;
        let secrets = Secrets::new(&[("it", planted), ("other", "secret-of-nobody")])?;
        ensure!(secrets.in_memory_of(pid)? == BTreeSet::from(["it"]));
        Ok(())
    }
}
