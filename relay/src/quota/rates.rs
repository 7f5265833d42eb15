//! What everybody is held to, as the configuration says.

use super::bucket::Rate;
use crate::config::LimitsConfig;
use crate::limits::MISSES_BURST_MINUTES;

/// How fast a connection may send, and a party write and ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(super) frames: Rate,
    pub(super) bytes: Rate,
    pub(super) appends: Rate,
    pub(super) append_bytes: Rate,
    /// In tenths.
    pub(super) misses: Rate,
}

impl From<&LimitsConfig> for Rates {
    fn from(config: &LimitsConfig) -> Self {
        let misses = u64::from(config.misses_per_minute) * 10;
        Self {
            frames: Rate::per_second(config.frames_per_second.into(), config.frames_burst.into()),
            bytes: Rate::per_second(config.bytes_per_second.into(), config.bytes_burst.into()),
            appends: Rate::per_second(config.appends_per_second.into(), config.appends_burst.into()),
            append_bytes: Rate::per_second(config.append_bytes_per_second.into(), config.append_bytes_burst.into()),
            misses: Rate::per_minute(misses, misses * MISSES_BURST_MINUTES),
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self::from(&LimitsConfig::default())
    }
}
