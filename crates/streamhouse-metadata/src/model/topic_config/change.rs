//! Changes of a configuration (KIP-339): decided on the newest state, all of them or none.

use super::{Kind, TopicConfig, TopicConfigError, entry};

/// What happens to one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    Set(String),
    /// Back to the default.
    Delete,
    /// Adds to a list what is not in it.
    Append(String),
    /// Takes from a list what is in it.
    Subtract(String),
}

/// A change of one topic's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChange {
    /// First everything goes back to its default: what AlterConfigs means.
    pub replace: bool,
    /// In order; each names an entry.
    pub ops: Vec<(String, ConfigOp)>,
}

impl TopicConfig {
    /// The configuration after `change`.
    ///
    /// # Errors
    /// The first operation that is refused.
    pub fn changed(&self, change: &ConfigChange) -> Result<Self, TopicConfigError> {
        let mut config = if change.replace {
            Self::default()
        } else {
            self.clone()
        };
        for (name, op) in &change.ops {
            config.apply(name, op)?;
        }
        Ok(config)
    }

    fn apply(&mut self, name: &str, op: &ConfigOp) -> Result<(), TopicConfigError> {
        let known = entry(name).ok_or_else(|| TopicConfigError::Unknown(name.to_owned()))?;
        let list = |config: &Self| -> Result<Vec<String>, TopicConfigError> {
            if known.kind != Kind::List {
                return Err(TopicConfigError::NoList(name.to_owned()));
            }
            Ok(split(config.value(known)).map(ToOwned::to_owned).collect())
        };
        match op {
            ConfigOp::Set(value) => self.set(name, value),
            ConfigOp::Delete => {
                self.entries.remove(name);
                Ok(())
            }
            ConfigOp::Append(added) => {
                let mut values = list(self)?;
                for value in split(added) {
                    if !values.iter().any(|known| known == value) {
                        values.push(value.to_owned());
                    }
                }
                self.set(name, &values.join(","))
            }
            ConfigOp::Subtract(taken) => {
                let mut values = list(self)?;
                values.retain(|value| split(taken).all(|taken| taken != value));
                self.set(name, &values.join(","))
            }
        }
    }
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|value| !value.is_empty())
}
