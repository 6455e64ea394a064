//! The standard gRPC health check.

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{client::Client, error::Result, retry::Safety};

/// What a server says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthStatus {
    /// It answers calls.
    Serving,
    /// It does not, for example because it is shutting down.
    NotServing,
    /// It does not know.
    Unknown,
}

impl HealthStatus {
    /// Whether calls are answered.
    pub fn is_serving(self) -> bool {
        self == HealthStatus::Serving
    }
}

impl Client {
    /// Asks whether the server as a whole answers calls (`grpc.health.v1.Health/Check`).
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn health(&self) -> Result<HealthStatus> {
        self.service_health("").await
    }

    /// Asks about one service, such as `kalamdb.v1.QueryService`.
    ///
    /// # Errors
    /// When the server cannot be asked, or, with kind [`NotFound`](crate::ErrorKind::NotFound), does not know the
    /// service.
    pub async fn service_health(&self, service: impl Into<String>) -> Result<HealthStatus> {
        let request = HealthCheckRequest { service: service.into() };
        let response = self
            .call(Safety::Repeatable, self.default_timeout(), request, |channel, _, request| async move {
                HealthClient::new(channel).check(request).await
            })
            .await?;
        Ok(match response.status() {
            ServingStatus::Serving => HealthStatus::Serving,
            ServingStatus::NotServing => HealthStatus::NotServing,
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => HealthStatus::Unknown,
        })
    }
}
