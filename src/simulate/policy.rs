//! What is compared: how a pool may be set, and what others do.

use std::str::FromStr;
use std::time::Duration;

/// How a fleet is scaled.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub name: String,
    /// How long an idle worker is kept in case; as long as a boot takes where nothing is said.
    pub idle: Option<Duration>,
    /// Whether boot times, announcements and the ends of builds are looked ahead to.
    pub looks_ahead: bool,
    /// Standard deviations of what is uncertain that are kept in reserve.
    pub reserve: f64,
    pub min: usize,
    pub max: usize,
    /// At most; what the world allows where nothing is said.
    pub uses: Option<usize>,
    /// Workers that are parked instead of ended, at most.
    pub park: usize,
    /// So long.
    pub park_for: Duration,
}

/// As in a pool that says nothing else.
const PARK_FOR: Duration = Duration::from_secs(12 * 3600);

const USUAL: [&str; 6] = ["rouse", "lean", "eager", "demand", "idle-15m", "single-use"];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    #[error("there is no policy `{0}`; there are {all}, and each with settings after a colon: `rouse:reserve=1.5,min=10`", all = USUAL.join(", "))]
    Unknown(String),
    #[error(
        "`{setting}` in policy `{policy}`: settings are idle=15m, reserve=0.7, min=10, max=200, uses=5, park=3, park_for=12h, ahead=no"
    )]
    Setting { policy: String, setting: String },
}

impl Policy {
    /// As the fleet is scaled where a pool says nothing else.
    #[must_use]
    pub fn rouse(name: &str) -> Self {
        let reserve = rouse_model::scaling::RESERVE;
        Self {
            name: name.to_owned(),
            idle: None,
            looks_ahead: true,
            reserve,
            min: 0,
            max: usize::MAX,
            uses: None,
            park: 0,
            park_for: PARK_FOR,
        }
    }

    /// Those that are compared where none is named.
    #[must_use]
    pub fn usual() -> Vec<Self> {
        USUAL.iter().filter_map(|name| Self::named(name)).collect()
    }

    fn named(name: &str) -> Option<Self> {
        let usual = Self::rouse(name);
        Some(match name {
            "rouse" => usual,
            "lean" => Self { reserve: 0.0, ..usual },
            "eager" => Self { reserve: 2.0, ..usual },
            "demand" => Self { looks_ahead: false, ..usual },
            "idle-15m" => Self { looks_ahead: false, idle: Some(Duration::from_secs(900)), ..usual },
            "single-use" => Self { looks_ahead: false, uses: Some(1), ..usual },
            _ => return None,
        })
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "idle" => self.idle = Some(span(value)?),
            "reserve" => self.reserve = value.parse().ok().filter(|reserve: &f64| reserve.is_finite())?,
            "min" => self.min = value.parse().ok()?,
            "max" => self.max = value.parse().ok().filter(|max| *max > 0)?,
            "uses" => self.uses = Some(value.parse().ok().filter(|uses| *uses > 0)?),
            "park" => self.park = value.parse().ok()?,
            "park_for" => self.park_for = span(value).filter(|time| !time.is_zero())?,
            "ahead" => self.looks_ahead = matches!(value, "yes" | "no").then(|| value == "yes")?,
            _ => return None,
        }
        Some(())
    }
}

fn span(text: &str) -> Option<Duration> {
    text.parse::<rouse_contract::units::Span>().ok().map(|span| span.0)
}

impl FromStr for Policy {
    type Err = PolicyError;

    /// A name, and settings after a colon that differ from it.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let mut policy = Self::named(name).ok_or_else(|| PolicyError::Unknown(name.to_owned()))?;
        policy.name = text.to_owned();
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let set = setting.split_once('=').and_then(|(key, value)| policy.set(key.trim(), value.trim()));
            set.ok_or_else(|| PolicyError::Setting { policy: text.to_owned(), setting: setting.to_owned() })?;
        }
        Ok(policy)
    }
}
