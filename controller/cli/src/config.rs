//! The client configuration: which region, which controllers, and the certificate to show them.
use crate::failure::Failure;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// As the controller writes it to `admin.toml`, and as `foreweave client add` prints it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub region: String,
    /// `host:port`, tried in this order.
    pub controllers: Vec<String>,
    /// PEM of the fabric's authority.
    pub authority: String,
    /// PEM of the client's certificate.
    pub certificate: String,
    /// PEM of its private key.
    pub key: String,
}

/// Without the key.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("region", &self.region)
            .field("controllers", &self.controllers)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// From the file that was named, or from the usual place.
    pub fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let path = named.map(Path::to_owned).or_else(usual_place).ok_or_else(|| Failure::Usage {
            what: "there is no client configuration: HOME is not set".into(),
            hint: "name one with --config FILE or FOREWEAVE_CONFIG".into(),
        })?;
        let text = std::fs::read_to_string(&path).map_err(|error| Failure::Usage {
            what: format!("the client configuration {} cannot be read: {error}", path.display()),
            hint: "the controller wrote one for the admin to admin.toml in its state directory; name it with --config \
                   FILE or FOREWEAVE_CONFIG, or copy it to ~/.config/foreweave/config.toml"
                .into(),
        })?;
        Self::parse(&text).map_err(|why| Failure::Usage {
            what: format!("the client configuration {} is wrong: {why}", path.display()),
            hint: "foreweave client add NAME --role ROLE makes a new one".into(),
        })
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if config.controllers.is_empty() {
            return Err("controllers is empty; it needs at least one \"host:port\"".into());
        }
        for address in &config.controllers {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) {
                return Err(format!("controllers has \"{address}\", which is not host:port"));
            }
        }
        for (name, pem, word) in [
            ("authority", &config.authority, "CERTIFICATE-----"),
            ("certificate", &config.certificate, "CERTIFICATE-----"),
            ("key", &config.key, "PRIVATE KEY-----"),
        ] {
            if !pem.contains("-----BEGIN") || !pem.contains(word) {
                return Err(format!("{name} is not PEM with \"-----BEGIN … {word}\""));
            }
        }
        Ok(config)
    }
}

fn usual_place() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(base.join("foreweave/config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "authority = \"-----BEGIN CERTIFICATE-----\"\ncertificate = \"-----BEGIN CERTIFICATE-----\"\n\
                       key = \"-----BEGIN PRIVATE KEY-----\"\n";

    #[test]
    fn a_configuration_is_read_and_its_key_is_not_shown() {
        let text = format!("region = \"home\"\ncontrollers = [\"[::1]:7447\", \"c.example:7447\"]\n{PEM}");
        let config = Config::parse(&text).expect("config");
        assert_eq!(config.controllers.len(), 2);
        assert!(!format!("{config:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_wrong_configuration_says_what_is_wrong() {
        for (text, why) in [
            (String::from("region = "), "expected"),
            (format!("controllers = [\"a:1\"]\n{PEM}"), "region"),
            (format!("region = \"r\"\ncontrollers = []\n{PEM}"), "at least one"),
            (format!("region = \"r\"\ncontrollers = [\"a\"]\n{PEM}"), "not host:port"),
            (format!("region = \"r\"\ncontrollers = [\"a:0\"]\n{PEM}"), "not host:port"),
            (format!("region = \"r\"\ncontrollers = [\"a:1\"]\ncolour = 1\n{PEM}"), "colour"),
            (
                "region=\"r\"\ncontrollers=[\"a:1\"]\nauthority=\"x\"\ncertificate=\"y\"\nkey=\"z\"".into(),
                "authority is not PEM",
            ),
        ] {
            let refusal = Config::parse(&text).expect_err(&text);
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn a_missing_file_is_named_with_what_to_do() {
        let failure = Config::load(Some(Path::new("/nonexistent/fw.toml"))).expect_err("no file");
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.what().contains("/nonexistent/fw.toml"));
        assert!(failure.hint().contains("admin.toml"));
    }
}
