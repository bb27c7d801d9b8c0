//! From the paths that an operator names to the texts of files.
//!
//! This is the one place of the crate that touches a file system. It must not know YAML.

use super::{DocumentError, MAX_FILE_BYTES};
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

fn error(file: &Path, problem: impl Into<String>, fix: impl Into<String>) -> DocumentError {
    DocumentError {
        file: file.to_owned(),
        document: None,
        line: None,
        field: None,
        problem: problem.into(),
        fix: fix.into(),
    }
}

fn unreadable(file: &Path, source: &io::Error) -> DocumentError {
    let problem = match source.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        kind => format!("cannot be read ({kind})"),
    };
    error(file, problem, "name a readable YAML file or a folder of such files")
}

/// The text of each file that `path` stands for, in order, or why there is none.
pub(super) fn read(path: &Path) -> Vec<Result<(PathBuf, String), DocumentError>> {
    let files = match files(path) {
        Ok(files) => files,
        Err(error) => return vec![Err(error)],
    };
    files.into_iter().map(|file| text(&file).map(|text| (file, text))).collect()
}

fn files(path: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    let metadata = fs::metadata(path).map_err(|source| unreadable(path, &source))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|source| unreadable(path, &source))? {
        let file = entry.map_err(|source| unreadable(path, &source))?.path();
        let is_yaml =
            file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        let fix = "name a folder that holds documents";
        return Err(error(path, "holds no *.yaml and no *.yml file", fix));
    }
    files.sort();
    Ok(files)
}

fn text(path: &Path) -> Result<String, DocumentError> {
    let failed = |source: io::Error| unreadable(path, &source);
    // asked before it is opened: opening a pipe would wait for its writer
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(error(path, "is not a regular file", "name a YAML file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let problem = format!("is larger than {MAX_FILE_BYTES} bytes");
        return Err(error(path, problem, "split it into several files"));
    }
    String::from_utf8(bytes)
        .map_err(|_| error(path, "is not UTF-8 text", "save it with the encoding UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        read(path)
            .into_iter()
            .map(|file| {
                let (file, text) = file.unwrap();
                format!("{}={text}", file.file_name().unwrap().display())
            })
            .collect()
    }

    #[test]
    fn a_folder_is_its_yaml_files_in_order_and_nothing_below() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "yaml", ".yaml"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let below = folder.path().join("sub.yaml");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("d.yaml"), "d").unwrap();
        assert_eq!(names(folder.path()), ["a.yml=a.yml", "b.yaml=b.yaml"]);
    }

    #[test]
    fn a_file_is_read_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("classes");
        fs::write(&file, "x").unwrap();
        assert_eq!(names(&file), ["classes=x"]);
    }

    #[test]
    fn a_file_may_be_as_large_as_the_limit_and_not_larger() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.yaml");
        let limit = usize::try_from(MAX_FILE_BYTES).unwrap();
        fs::write(&file, "#".repeat(limit)).unwrap();
        assert_eq!(text(&file).unwrap().len(), limit);
        fs::write(&file, "#".repeat(limit + 1)).unwrap();
        assert!(text(&file).unwrap_err().problem.contains("larger than"));
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let problem = |path: &Path| read(path).remove(0).unwrap_err().problem;
        assert_eq!(problem(&folder.path().join("none.yaml")), "does not exist");
        assert!(problem(folder.path()).contains("holds no"));
        let binary = folder.path().join("x.yaml");
        fs::write(&binary, [0xff, 0xfe]).unwrap();
        assert!(problem(&binary).contains("UTF-8"));
        assert!(problem(Path::new("/dev/null")).contains("regular file"));
    }
}
