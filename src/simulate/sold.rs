//! What a simulated provider sells: offers in order, as a pool lists them, and what is assumed of each thing in them.

use rouse_contract::units::Span;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

/// Things that are as good as each other but for their price, and how long they are tried before the next offer is.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// `None`: not at all.
    pub try_for: Option<Duration>,
    pub of: Vec<Sold>,
}

/// One thing that workers may be launched as.
#[derive(Debug, Clone, PartialEq)]
pub struct Sold {
    pub name: String,
    /// For an hour.
    pub price: f64,
    /// When there is none of it, since the beginning of the trace.
    pub out: Vec<Range<Duration>>,
    /// How many of those that run are taken back in an hour, in parts of all.
    pub interrupted: f64,
}

impl Sold {
    #[must_use]
    pub fn of_price(price: f64) -> Self {
        Self { name: String::new(), price, out: Vec::new(), interrupted: 0.0 }
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let number = |most: f64| value.parse().ok().filter(|number| (0.0..=most).contains(number));
        match key {
            "price" => self.price = number(1e6)?,
            "interrupted" => self.interrupted = number(60.0)?,
            "out" => {
                let (from, to) = value.split_once('-')?;
                let time = |text: &str| text.trim().parse::<Span>().ok().map(|span| span.0);
                self.out.push(Some(time(from)?..time(to)?).filter(|out| !out.is_empty())?);
            }
            _ => return None,
        }
        Some(())
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OfferError {
    #[error("`{0}` in an offer has no name, or no price: `spot:price=0.05`")]
    Bare(String),
    #[error(
        "`{setting}` in the offer of `{name}`: settings are price=0.05 (for an hour), interrupted=0.1 (taken back of ten that run for an hour: one), \
         out=2h-5h (there is none of it from then to then), try_for=5m (before the next offer is taken)"
    )]
    Setting { name: String, setting: String },
}

impl FromStr for Offer {
    type Err = OfferError;

    /// `spot:price=0.05,out=2h-5h,try_for=5m`; what is as good follows after a slash.
    fn from_str(text: &str) -> Result<Self, OfferError> {
        let mut offer = Self { try_for: None, of: Vec::new() };
        for one in text.split('/') {
            let bare = || OfferError::Bare(one.trim().to_owned());
            let (name, settings) = one.split_once(':').ok_or_else(bare)?;
            let mut sold = Sold { name: name.trim().to_owned(), ..Sold::of_price(f64::NAN) };
            for setting in settings.split(',').filter(|setting| !setting.trim().is_empty()) {
                let set = match setting.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                    Some(("try_for", value)) if offer.try_for.is_none() => {
                        value.parse::<Span>().ok().map(|span| offer.try_for = Some(span.0))
                    }
                    Some((key, value)) => sold.set(key, value),
                    None => None,
                };
                let wrong =
                    || OfferError::Setting { name: sold.name.clone(), setting: setting.trim().to_owned() };
                set.ok_or_else(wrong)?;
            }
            if sold.name.is_empty() || sold.price.is_nan() {
                return Err(bare());
            }
            offer.of.push(sold);
        }
        Ok(offer)
    }
}
