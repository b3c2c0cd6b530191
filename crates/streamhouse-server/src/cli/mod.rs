//! The command line: `streamhouse` and `streamhouse serve` are the same.
//!
//! Exit status 0 after an orderly stop, 1 when something could not be stored or the process could not go
//! on, 2 for what the operator has to mend: flags, settings, stores that refuse us.

mod banner;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Layer};

/// Event streaming on object storage, for Kafka clients.
#[derive(Parser, Debug)]
#[command(name = "streamhouse", version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server (also what the bare command does)
    Serve(Box<Serve>),
}

/// Every setting is also a variable (STREAMHOUSE_KAFKA_LISTEN) and a key of the file (kafka_listen).
#[derive(clap::Args, Debug)]
struct Serve {
    /// A TOML file with settings
    #[arg(long, env = "STREAMHOUSE_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Layer,
}

/// The whole process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let serve = match cli.command {
        Some(Command::Serve(serve)) => *serve,
        None => cli.serve,
    };
    match Config::load(serve.config.as_ref(), &serve.settings) {
        Ok(config) => serve::run(config),
        Err(error) => {
            eprintln!("streamhouse: {error}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn serve_and_the_bare_command_take_the_same_flags() {
        for line in [
            vec!["streamhouse", "--kafka-listen", "127.0.0.1:0"],
            vec!["streamhouse", "serve", "--kafka-listen", "127.0.0.1:0"],
        ] {
            let cli = Cli::parse_from(line);
            let serve = match cli.command {
                Some(Command::Serve(serve)) => *serve,
                None => cli.serve,
            };
            assert_eq!(serve.settings.kafka_listen.as_deref(), Some("127.0.0.1:0"));
        }
    }
}
