//! What tokens claim, and which claims are accepted.

use kalamdb_engine::UserId;
use serde::Deserialize;

use super::{TokenFault, own::OWN_ISSUER};
use crate::config::AuthSection;

const US_PER_S: i64 = 1_000_000;

/// The claims that matter. One that is given twice makes the token malformed; others are ignored.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: Option<String>,
    pub(super) sub: Option<String>,
    pub(super) user_id: Option<String>,
    aud: Option<Audience>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    /// The session, in KalamDB's own tokens.
    pub(super) sid: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Seconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum NumericDate {
    Whole(i64),
    Fraction(f64),
}

impl NumericDate {
    fn us(self) -> Result<i64, TokenFault> {
        match self {
            Self::Whole(seconds) => Ok(seconds.saturating_mul(US_PER_S)),
            // Casts of numbers out of range give the nearest one.
            Self::Fraction(seconds) if seconds.is_finite() => Ok((seconds * US_PER_S as f64) as i64),
            Self::Fraction(_) => Err(TokenFault::BadClaim),
        }
    }
}

/// Which tokens of others are accepted.
#[derive(Debug)]
pub(super) struct Rules {
    issuers: Vec<String>,
    audiences: Vec<String>,
    leeway_us: i64,
}

impl Rules {
    pub(super) fn new(config: &AuthSection) -> Self {
        Self {
            issuers: config.issuers.clone(),
            audiences: config.audiences.clone(),
            leeway_us: i64::try_from(config.leeway_s).unwrap_or_default().saturating_mul(US_PER_S),
        }
    }

    /// The user that claims name, and when they cease to be valid.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn check(&self, claims: &Claims, now_us: i64) -> Result<(UserId, i64), TokenFault> {
        let expires_at_us = expiry(claims, now_us, self.leeway_us)?;
        for from in [claims.nbf, claims.iat].into_iter().flatten() {
            if from.us()? > now_us.saturating_add(self.leeway_us) {
                return Err(TokenFault::NotYet);
            }
        }
        match claims.iss.as_deref() {
            // Nobody else may speak for KalamDB.
            Some(OWN_ISSUER) => return Err(TokenFault::Issuer),
            Some(issuer) if !self.issuers.is_empty() && !self.issuers.iter().any(|known| known == issuer) => {
                return Err(TokenFault::Issuer);
            }
            None if !self.issuers.is_empty() => return Err(TokenFault::Issuer),
            _ => {}
        }
        let is_ours = |audience: &String| self.audiences.contains(audience);
        let for_us = match &claims.aud {
            _ if self.audiences.is_empty() => true,
            None => false,
            Some(Audience::One(audience)) => is_ours(audience),
            Some(Audience::Many(audiences)) => audiences.iter().any(is_ours),
        };
        if !for_us {
            return Err(TokenFault::Audience);
        }
        let user = claims.user_id.as_ref().or(claims.sub.as_ref()).ok_or(TokenFault::NoUser)?;
        Ok((UserId::new(user).map_err(|_| TokenFault::NoUser)?, expires_at_us))
    }
}

/// When claims cease to be valid.
///
/// # Errors
/// NoExpiry, Expired, BadClaim.
pub(super) fn expiry(claims: &Claims, now_us: i64, leeway_us: i64) -> Result<i64, TokenFault> {
    let expires_at_us = claims.exp.ok_or(TokenFault::NoExpiry)?.us()?.saturating_add(leeway_us);
    if now_us >= expires_at_us { Err(TokenFault::Expired) } else { Ok(expires_at_us) }
}
