//! The variables that OpenTelemetry agrees on: whether to export at all, and what is refused.
//!
//! The library reads most of them itself, and takes what it does not understand for its default without a word.
//! An operator who asked for something gets it here or is told.

/// Why the variables are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("{variable}={value}: traces are sent as http/protobuf only")]
    Protocol { variable: &'static str, value: String },
    #[error("{0} holds a name or password: headers go into OTEL_EXPORTER_OTLP_HEADERS")]
    Credentials(&'static str),
    #[error("OTEL_TRACES_EXPORTER={0}: there are otlp and none")]
    Exporter(String),
    #[error("OTEL_TRACES_SAMPLER={0}: there are {SAMPLERS:?}")]
    Sampler(String),
    #[error("OTEL_TRACES_SAMPLER_ARG={0:?}: a number between 0 and 1 is needed")]
    SamplerArgument(String),
}

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];
const PROTOCOL: &str = "http/protobuf";

/// Whether traces are to be exported. `variable` reads the environment; an empty one counts as unset.
pub(super) fn check(variable: impl Fn(&'static str) -> Option<String>) -> Result<bool, SettingsError> {
    let set = |name: &'static str| variable(name).filter(|value| !value.is_empty());
    let endpoints = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    let endpoint = endpoints.iter().find_map(|name| Some((*name, set(name)?)));
    let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let Some((variable, endpoint)) = endpoint.filter(|_| !disabled) else {
        return Ok(false);
    };
    match set("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(false),
        Some(other) => return Err(SettingsError::Exporter(other.to_owned())),
    }
    // It would be shown where the address is.
    if endpoint.contains('@') {
        return Err(SettingsError::Credentials(variable));
    }
    let protocols = [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ];
    if let Some((variable, value)) = protocols.iter().find_map(|name| Some((*name, set(name)?)))
        && value != PROTOCOL
    {
        return Err(SettingsError::Protocol { variable, value });
    }
    if let Some(sampler) = set("OTEL_TRACES_SAMPLER") {
        if !SAMPLERS.contains(&sampler.as_str()) {
            return Err(SettingsError::Sampler(sampler));
        }
        let argument = set("OTEL_TRACES_SAMPLER_ARG").unwrap_or_default();
        let ratio = argument
            .parse::<f64>()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio));
        if sampler.ends_with("traceidratio") && ratio.is_none() {
            return Err(SettingsError::SamplerArgument(argument));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    fn checked(variables: &[(&str, &str)]) -> Result<bool, SettingsError> {
        check(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn traces_are_exported_where_an_endpoint_is_named_and_nothing_turns_them_off() {
        for (variables, exported) in [
            (vec![], false),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "")], false),
            (vec![("OTEL_TRACES_SAMPLER", "nonsense")], false),
            (vec![ON], true),
            (
                vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/v1/traces")],
                true,
            ),
            (vec![ON, ("OTEL_SDK_DISABLED", "TRUE")], false),
            (vec![ON, ("OTEL_TRACES_EXPORTER", "none")], false),
            (vec![ON, ("OTEL_TRACES_EXPORTER", "otlp")], true),
            (vec![ON, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], true),
            (vec![ON, ("OTEL_TRACES_SAMPLER", "always_off")], true),
            (
                vec![
                    ON,
                    ("OTEL_TRACES_SAMPLER", "traceidratio"),
                    ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
                ],
                true,
            ),
        ] {
            assert_eq!(checked(&variables), Ok(exported), "{variables:?}");
        }
    }

    #[test]
    fn what_is_not_here_is_refused_by_name() {
        use SettingsError as E;
        for (variables, error) in [
            (
                vec![ON, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
                E::Protocol {
                    variable: "OTEL_EXPORTER_OTLP_PROTOCOL",
                    value: "grpc".into(),
                },
            ),
            (
                vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:secret@collector:4318")],
                E::Credentials("OTEL_EXPORTER_OTLP_ENDPOINT"),
            ),
            // The particular one wins.
            (
                vec![
                    ON,
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
                    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
                ],
                E::Protocol {
                    variable: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                    value: "http/json".into(),
                },
            ),
            (
                vec![ON, ("OTEL_TRACES_EXPORTER", "zipkin")],
                E::Exporter("zipkin".into()),
            ),
            (
                vec![ON, ("OTEL_TRACES_SAMPLER", "xray")],
                E::Sampler("xray".into()),
            ),
            (
                vec![ON, ("OTEL_TRACES_SAMPLER", "traceidratio")],
                E::SamplerArgument(String::new()),
            ),
            (
                vec![
                    ON,
                    ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                    ("OTEL_TRACES_SAMPLER_ARG", "25"),
                ],
                E::SamplerArgument("25".into()),
            ),
        ] {
            assert_eq!(checked(&variables), Err(error), "{variables:?}");
        }
    }
}
