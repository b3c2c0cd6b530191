//! Profiles: `~/.aws/credentials` and `~/.aws/config`, which `object_store` does not read.
//!
//! Static keys, the region and the endpoint of the profile named by `AWS_PROFILE` (else `default`)
//! are taken; variables win over both. A profile that was asked for by name and has no keys is an
//! error, so that a server never falls back to an instance's role unnoticed.
//!
//! Not here: SSO, `credential_process`, `role_arn` with `source_profile`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::S3Options;
use crate::stores::open::OpenError;

/// What a profile sets.
#[derive(Default)]
pub(super) struct Profile {
    pub(super) keys: Option<Keys>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
}

pub(super) struct Keys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
}

type Section = BTreeMap<String, String>;

/// Settings under which keys come from somewhere this server does not go.
const UNSUPPORTED: [(&str, &str); 4] = [
    (
        "sso_session",
        "SSO is not supported: export its keys as AWS_* variables",
    ),
    (
        "sso_start_url",
        "SSO is not supported: export its keys as AWS_* variables",
    ),
    (
        "credential_process",
        "credential_process is not supported: export its keys as AWS_* variables",
    ),
    (
        "role_arn",
        "role_arn in a profile is not supported: use AWS_WEB_IDENTITY_TOKEN_FILE or export the keys",
    ),
];

pub(super) fn load(options: &S3Options) -> Result<Profile, OpenError> {
    let keys_are_set = options.variable("AWS_ACCESS_KEY_ID").is_some();
    let asked = options
        .variable("AWS_PROFILE")
        .or(options.variable("AWS_DEFAULT_PROFILE"));
    let name = asked.unwrap_or("default");
    let file = |variable: &str, default: &str| match options.variable(variable) {
        Some(path) => Some(PathBuf::from(path)),
        None => options
            .variable("HOME")
            .map(|home| PathBuf::from(home).join(".aws").join(default)),
    };
    let files = [
        (
            file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            name.to_owned(),
        ),
        (
            file("AWS_CONFIG_FILE", "config"),
            match name {
                "default" => "default".to_owned(),
                name => format!("profile {name}"),
            },
        ),
    ];
    // The first file wins, setting by setting.
    let mut found: Option<Section> = None;
    for (path, section) in &files {
        let text = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        if let Some(settings) = text.and_then(|text| sections(&text).remove(section)) {
            let merged = found.get_or_insert_default();
            for (key, value) in settings {
                merged.entry(key).or_insert(value);
            }
        }
    }
    let Some(settings) = found else {
        return match asked {
            Some(profile) if !keys_are_set => Err(OpenError::NoSuchProfile {
                profile: profile.to_owned(),
                files: files.into_iter().filter_map(|(path, _)| path).collect(),
            }),
            _ => Ok(Profile::default()),
        };
    };
    let setting = |name: &str| settings.get(name).filter(|value| !value.is_empty()).cloned();
    let keys = match (setting("aws_access_key_id"), setting("aws_secret_access_key")) {
        _ if keys_are_set => None,
        (Some(access_key_id), Some(secret_access_key)) => Some(Keys {
            access_key_id,
            secret_access_key,
            session_token: setting("aws_session_token"),
        }),
        _ => {
            if let Some(profile) = asked {
                let elsewhere = UNSUPPORTED.iter().find(|(name, _)| setting(name).is_some());
                return Err(OpenError::ProfileWithoutKeys {
                    profile: profile.to_owned(),
                    why: elsewhere.map_or(
                        "aws_access_key_id and aws_secret_access_key are needed",
                        |(_, why)| why,
                    ),
                });
            }
            None
        }
    };
    Ok(Profile {
        keys,
        region: setting("region"),
        endpoint: setting("endpoint_url"),
    })
}

/// The sections of an AWS settings file. Nested settings (indented under an empty one) are skipped.
fn sections(text: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let name = name.0.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(name.clone()).or_default();
            current = Some(name);
        } else if !line.starts_with([' ', '\t'])
            && let Some(section) = current.as_ref().and_then(|name| sections.get_mut(name))
            && let Some((key, value)) = trimmed.split_once('=')
        {
            section.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(home: &std::path::Path, variables: &[(&str, &str)]) -> S3Options {
        let mut environment: BTreeMap<_, _> = variables
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        environment.insert("HOME".to_owned(), home.display().to_string());
        S3Options {
            endpoint: None,
            allow_http: false,
            virtual_hosts: None,
            environment,
        }
    }

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let aws = home.path().join(".aws");
        std::fs::create_dir(&aws).unwrap();
        let credentials = "[default]\naws_access_key_id = D\naws_secret_access_key = d\n\
                           # work\n[work]\naws_access_key_id=W\naws_secret_access_key=w\naws_session_token=t\n";
        let config = "[default]\nregion = eu-west-1\n[profile work]\nregion=eu-north-1\ns3 =\n  region = x\n\
                      [profile web]\nsso_session = s\n";
        std::fs::write(aws.join("credentials"), credentials).unwrap();
        std::fs::write(aws.join("config"), config).unwrap();
        home
    }

    #[test]
    fn keys_and_region_come_from_the_profile_asked_for_else_from_the_default() {
        let home = home();
        let plain = load(&options(home.path(), &[])).unwrap();
        assert_eq!(plain.keys.unwrap().access_key_id, "D");
        assert_eq!(plain.region.as_deref(), Some("eu-west-1"));
        let work = load(&options(home.path(), &[("AWS_PROFILE", "work")])).unwrap();
        let keys = work.keys.unwrap();
        assert_eq!(
            (keys.access_key_id.as_str(), keys.secret_access_key.as_str()),
            ("W", "w")
        );
        assert_eq!(keys.session_token.as_deref(), Some("t"));
        assert_eq!(work.region.as_deref(), Some("eu-north-1"));
    }

    #[test]
    fn keys_in_variables_win_over_every_profile() {
        let home = home();
        let set = [("AWS_PROFILE", "work"), ("AWS_ACCESS_KEY_ID", "V")];
        assert!(load(&options(home.path(), &set)).unwrap().keys.is_none());
    }

    #[test]
    fn a_profile_that_was_asked_for_and_cannot_serve_is_named() {
        let home = home();
        let missing = load(&options(home.path(), &[("AWS_PROFILE", "nobody")]));
        assert!(matches!(missing, Err(OpenError::NoSuchProfile { profile, .. }) if profile == "nobody"));
        let sso = load(&options(home.path(), &[("AWS_PROFILE", "web")]));
        assert!(matches!(sso, Err(OpenError::ProfileWithoutKeys { why, .. }) if why.starts_with("SSO")));
    }
}
