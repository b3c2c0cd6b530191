//! The URLs that name an object store: `file:PATH`, `s3://bucket/prefix`, `memory:`.
//!
//! Not here: reaching what they name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use object_store::path::Path;

/// An address as it may be shown: what stands before the host, mostly a name and a password, is left out.
#[must_use]
pub fn without_credentials(address: &str) -> String {
    // A password may hold a slash or an @ that nobody escaped: everything up to the last @ is suspect.
    match address.rsplit_once('@') {
        Some((before, rest)) => match before.split_once("//") {
            Some((scheme, _)) => format!("{scheme}//…@{rest}"),
            None => format!("…@{rest}"),
        },
        None => address.to_owned(),
    }
}

/// Where objects go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A local directory, relative paths from the working directory.
    File(PathBuf),
    /// A bucket, and the prefix that all keys get (may be empty).
    S3 { bucket: String, prefix: Path },
    /// The process's memory: gone with it.
    Memory,
}

/// Why a text is no [`StoreUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    #[error("{0:?} is no object store: file:PATH, s3://BUCKET/PREFIX or memory: expected")]
    UnknownScheme(String),
    #[error("file: needs a path, as in file:./objects")]
    NoPath,
    #[error("s3:// needs a bucket, as in s3://bucket/prefix; {0:?} is no bucket's name")]
    BadBucket(String),
    #[error("{prefix:?} cannot be a prefix of keys")]
    BadPrefix { prefix: String },
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "memory:" || text == "memory://" {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("file:") {
            // file:///a/b, file:/a/b and file:a/b are all in use.
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(StoreUrlError::NoPath),
                path => Ok(Self::File(PathBuf::from(path))),
            };
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if bucket.is_empty() || !bucket.chars().all(sound) {
                let shown = bucket.rsplit('@').next().unwrap_or_default();
                return Err(StoreUrlError::BadBucket(shown.to_owned()));
            }
            let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|_| StoreUrlError::BadPrefix {
                prefix: prefix.to_owned(),
            })?;
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix,
            });
        }
        Err(StoreUrlError::UnknownScheme(without_credentials(text)))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.as_ref().is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Memory => write!(f, "memory:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accepted_form_is_understood_and_shown_again() {
        let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 {
            bucket: bucket.into(),
            prefix: Path::from(prefix),
        };
        for (text, url, shown) in [
            ("memory:", StoreUrl::Memory, "memory:"),
            ("file:./a", StoreUrl::File("./a".into()), "file:./a"),
            ("file:///a/b", StoreUrl::File("/a/b".into()), "file:/a/b"),
            ("s3://b", s3("b", ""), "s3://b"),
            ("s3://b/x/y/", s3("b", "x/y"), "s3://b/x/y"),
        ] {
            assert_eq!(text.parse(), Ok(url.clone()), "{text}");
            assert_eq!(url.to_string(), shown);
        }
    }

    #[test]
    fn what_names_no_store_is_refused_by_name() {
        use StoreUrlError as E;
        for (text, error) in [
            ("file:", E::NoPath),
            ("s3://", E::BadBucket(String::new())),
            ("s3://a b/c", E::BadBucket("a b".into())),
            // As some tools write it: the keys are not for the log.
            ("s3://AKIA:secret@bucket/c", E::BadBucket("bucket".into())),
            (
                "https://AKIA:sec/ret@host/b",
                E::UnknownScheme("https://…@host/b".into()),
            ),
            (
                "s3://b/../c",
                E::BadPrefix {
                    prefix: "../c".into(),
                },
            ),
            ("gs://b", E::UnknownScheme("gs://b".into())),
            ("./objects", E::UnknownScheme("./objects".into())),
        ] {
            assert_eq!(text.parse::<StoreUrl>(), Err(error), "{text}");
        }
    }
}
