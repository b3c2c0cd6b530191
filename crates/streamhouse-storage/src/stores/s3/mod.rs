//! S3 and what speaks its protocol: settings as people have them, turned into one client.
//!
//! Settings come from our own options first, then from the `AWS_*` variables that `object_store`
//! knows (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
//! `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, web identity, container and instance roles, …), then from the
//! profile files ([`profile`]). Without an endpoint the bucket is a virtual host of AWS; with one it is
//! the first part of the path, unless told otherwise. `AWS_CA_BUNDLE` or `SSL_CERT_FILE` adds to the
//! system's certificates.
//!
//! Invariant: the client retries nothing and speaks HTTP/1.1, one request a connection at a time.
//! Not here: SSO, `credential_process` and assuming roles from profile files; they are refused by name.

pub mod profile;
mod refusal;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{Certificate, ClientOptions, RetryConfig};
use streamhouse_observability::Metrics;
use url::Url;

use super::open::OpenError;
use super::url::without_credentials;

pub use refusal::Refusal;

use wire::CountingConnector;

/// AWS's own default; most other servers accept any.
const REGION_DEFAULT: &str = "us-east-1";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Beyond every attempt's limit: the limits above decide, this one only cleans up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// Idle connections kept: more than uploads and reads of one agent run at once.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Shorter than the time after which S3 closes an idle connection itself.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// What is set beside the URL.
#[derive(Clone)]
pub struct S3Options {
    /// `--s3-endpoint`, as `https://host:port`; over `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// `--s3-allow-http`, or `AWS_ALLOW_HTTP=true`.
    pub allow_http: bool,
    /// The bucket as part of the host's name; by default so exactly when there is no endpoint.
    pub virtual_hosts: Option<bool>,
    /// The environment, as a map: a seam for tests.
    pub environment: BTreeMap<String, String>,
}

/// Of the environment only the names: values are keys and tokens, or may be.
impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint.as_deref().map(without_credentials))
            .field("allow_http", &self.allow_http)
            .field("virtual_hosts", &self.virtual_hosts)
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Default for S3Options {
    fn default() -> Self {
        let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            endpoint: None,
            allow_http: false,
            virtual_hosts: None,
            environment: std::env::vars_os().filter_map(text).collect(),
        }
    }
}

impl S3Options {
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn flag(&self, name: &str) -> Option<bool> {
        let value = self.variable(name)?;
        Some(matches!(
            value.to_ascii_lowercase().as_str(),
            "1" | "true" | "yes" | "on"
        ))
    }
}

pub(super) struct OpenedS3 {
    pub(super) store: AmazonS3,
    /// For messages.
    pub(super) endpoint: String,
}

pub(super) fn open(bucket: &str, options: &S3Options, metrics: &Arc<Metrics>) -> Result<OpenedS3, OpenError> {
    let allow_http = options.allow_http || options.flag("AWS_ALLOW_HTTP") == Some(true);
    let mut builder = AmazonS3Builder::new();
    for (name, value) in &options.environment {
        if name.starts_with("AWS_")
            && let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
        {
            builder = builder.with_config(key, value);
        }
    }
    let profile = profile::load(options)?;
    if let Some(keys) = profile.keys {
        builder = builder
            .with_access_key_id(keys.access_key_id)
            .with_secret_access_key(keys.secret_access_key);
        if let Some(token) = keys.session_token {
            builder = builder.with_token(token);
        }
    }
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .iter()
        .find_map(|name| options.variable(name))
        .map(str::to_owned)
        .or(profile.region)
        .unwrap_or_else(|| REGION_DEFAULT.to_owned());
    let configured = options
        .endpoint
        .as_deref()
        .or(options.variable("AWS_ENDPOINT_URL_S3"))
        .or(options.variable("AWS_ENDPOINT_URL"))
        .or(options.variable("AWS_ENDPOINT"))
        .map(str::to_owned)
        .or(profile.endpoint);
    // A dot in a bucket's name would not match AWS's certificate as a host.
    let virtual_hosts = options
        .virtual_hosts
        .or(options.flag("AWS_VIRTUAL_HOSTED_STYLE_REQUEST"))
        .unwrap_or(configured.is_none() && !bucket.contains('.'));
    let endpoint = match &configured {
        Some(endpoint) => {
            let endpoint = endpoint_for(endpoint, bucket, virtual_hosts, allow_http)?;
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, &endpoint);
            endpoint
        }
        None => format!("https://s3.{region}.amazonaws.com"),
    };
    let unsigned = options.flag("AWS_SKIP_SIGNATURE") == Some(true);
    let store = builder
        .with_bucket_name(bucket)
        .with_region(region)
        .with_virtual_hosted_style_request(virtual_hosts)
        .with_client_options(client_options(options, allow_http)?)
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        })
        // One DELETE a key: not every S3 server has the bulk request, and none of ours is urgent.
        .with_disable_bulk_delete(true)
        .with_http_connector(CountingConnector::new(Arc::clone(metrics), unsigned))
        .build()
        .map_err(OpenError::S3)?;
    Ok(OpenedS3 { store, endpoint })
}

/// Checks the endpoint and puts the bucket in front of its host where that is asked for.
fn endpoint_for(
    endpoint: &str,
    bucket: &str,
    virtual_hosts: bool,
    allow_http: bool,
) -> Result<String, OpenError> {
    let shown = without_credentials(endpoint);
    let bad = || OpenError::BadEndpoint {
        endpoint: shown.clone(),
    };
    let mut url = Url::parse(endpoint).map_err(|_| bad())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OpenError::EndpointCredentials { endpoint: shown });
    }
    let host = url.host_str().ok_or_else(bad)?.to_owned();
    match url.scheme() {
        "https" => {}
        "http" if allow_http => {}
        "http" => {
            return Err(OpenError::PlainHttp { endpoint: shown });
        }
        _ => return Err(bad()),
    }
    if virtual_hosts && !host.starts_with(&format!("{bucket}.")) {
        url.set_host(Some(&format!("{bucket}.{host}")))
            .map_err(|_| bad())?;
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn client_options(options: &S3Options, allow_http: bool) -> Result<ClientOptions, OpenError> {
    let mut client = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_http1_only()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT)
        .with_pool_idle_timeout(IDLE_TIMEOUT)
        .with_pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
    if let Some(path) = options
        .variable("AWS_CA_BUNDLE")
        .or(options.variable("SSL_CERT_FILE"))
    {
        let path = PathBuf::from(path);
        let unusable = |reason: String| OpenError::CaBundle {
            path: path.clone(),
            reason,
        };
        let pem = std::fs::read(&path).map_err(|error| unusable(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable("it holds no certificate".to_owned()));
        }
        for certificate in certificates {
            client = client.with_root_certificate(certificate);
        }
    }
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_goes_into_the_host_only_where_virtual_hosts_are_asked_for() {
        let endpoint = |text, virtual_hosts| endpoint_for(text, "b", virtual_hosts, true).unwrap();
        assert_eq!(endpoint("http://127.0.0.1:9000/", false), "http://127.0.0.1:9000");
        assert_eq!(
            endpoint("https://s3.example.org", true),
            "https://b.s3.example.org"
        );
        assert_eq!(
            endpoint("https://b.s3.example.org", true),
            "https://b.s3.example.org"
        );
    }

    #[test]
    fn plain_http_and_what_is_no_url_are_refused_by_name() {
        let refused = |text| endpoint_for(text, "b", false, false).unwrap_err();
        assert!(matches!(
            refused("http://127.0.0.1:9000"),
            OpenError::PlainHttp { .. }
        ));
        assert!(matches!(refused("127.0.0.1:9000"), OpenError::BadEndpoint { .. }));
        assert!(matches!(refused("ftp://host"), OpenError::BadEndpoint { .. }));
    }

    #[test]
    fn neither_settings_nor_a_client_nor_a_refusal_shows_a_secret() {
        let secrets = ["the-secret", "the-token", "the-password"];
        let variables = [
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", secrets[0]),
            ("AWS_SESSION_TOKEN", secrets[1]),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut options = S3Options {
            endpoint: Some("https://host".to_owned()),
            allow_http: false,
            virtual_hosts: None,
            environment: BTreeMap::from(variables),
        };
        let metrics = Metrics::new(streamhouse_observability::MetricsOptions::default());
        let opened = open("bucket", &options, &metrics).unwrap();
        let mut shown = format!("{options:?} {:?} {}", opened.store, opened.store);
        assert!(shown.contains("AWS_SESSION_TOKEN"), "{shown}");
        for endpoint in [
            "https://me:the-password@host",
            "http://the-password@host",
            "me:the-password@host",
        ] {
            options.endpoint = Some(endpoint.to_owned());
            let error = open("bucket", &options, &metrics).err().unwrap();
            shown += &format!(" {error} {error:?} {options:?}");
        }
        for secret in secrets {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
