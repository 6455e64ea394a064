//! A running server: start and stop, in order.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use kalamdb_engine::{Caller, Engine, Env, JobHooks, NoHooks, UserId};
use kalamdb_proto::v1::{
    admin_service_server::AdminServiceServer, auth_service_server::AuthServiceServer,
    flush_service_server::FlushServiceServer, query_service_server::QueryServiceServer,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::server::{HealthReporter, HealthService};
use tower::util::BoxCloneSyncService;

use crate::{
    call::TraceIds,
    config::{BackendName, Config, LoadedConfig},
    flight::{self, FlightApi, FlightParts},
    identity::{self, Identity, IdentityParts, OwnTokens},
    services::{admin::AdminApi, auth::AuthApi, flush::FlushApi, query::QueryApi, subscribe},
    telemetry::{build, live::LiveGauges, metrics::Metrics, sizes::Sizes},
    transport::{App, AppParts, ConnectionSettings, Listener, Tls},
};

const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Why a server could not start: one line, with what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// A running server.
pub struct Server {
    address: SocketAddr,
    engine: Arc<Engine>,
    health: HealthReporter,
    stopping: CancellationToken,
    connections: JoinHandle<()>,
    upkeep: Vec<JoinHandle<()>>,
    first_key: Option<String>,
    flush_timeout: Duration,
}

impl Server {
    /// Starts a server: when this returns it answers calls.
    ///
    /// The port is bound before the data directory is opened, so that a second server on the same port fails before
    /// it touches any data.
    ///
    /// # Errors
    /// When the port cannot be bound or the data directory cannot be opened.
    pub async fn start(loaded: &LoadedConfig, env: Arc<dyn Env>) -> Result<Self, StartError> {
        Self::start_with_hooks(loaded, env, Arc::new(NoHooks)).await
    }

    /// The same as [`Server::start`], with something that is called between the steps of background jobs. For tests.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with_hooks(
        loaded: &LoadedConfig,
        env: Arc<dyn Env>,
        hooks: Arc<dyn JobHooks>,
    ) -> Result<Self, StartError> {
        let config = &loaded.config;
        let wanted = config.server.listen_address().map_err(StartError)?;
        let listener = Listener::bind(wanted, ConnectionSettings::from(config)).await;
        let listener = listener.map_err(|error| cannot_listen(wanted, &error))?;
        let address = listener.address().map_err(|error| cannot_listen(wanted, &error))?;
        let metrics = Metrics::install().map_err(StartError)?;
        let dev_caller = dev_caller(config)?;
        let tls = config.tls.is_on().then(|| Tls::load(&config.tls).map(Arc::new)).transpose();
        let tls = tls.map_err(|error| StartError(format!("TLS: {error}")))?;

        let engine = open_engine(loaded, Arc::clone(&env), hooks).await?;
        let first_key = first_administrator(config, &engine).await?;
        let identity = open_identity(config, dev_caller, &engine, &env)?;
        let (health, health_service) = health().await;
        let stopping = CancellationToken::new();
        let calls_end = CancellationToken::new();
        let flight = FlightParts {
            engine: Arc::clone(&engine),
            identity: Arc::clone(&identity),
            env: Arc::clone(&env),
            stopping: calls_end.clone(),
        };
        let flight = FlightApi::new(config, flight)
            .map_err(|error| StartError(format!("Arrow Flight cannot be set up: {error}")))?;
        let parts = AppParts {
            engine: Arc::clone(&engine),
            identity: Arc::clone(&identity),
            flight: Arc::new(flight),
            health: BoxCloneSyncService::new(health_service),
            reflection: BoxCloneSyncService::new(
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(kalamdb_proto::FILE_DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                    .build_v1()
                    .map_err(|error| StartError(format!("reflection cannot be set up: {error}")))?,
            ),
            metrics: metrics.clone(),
            trace_ids: TraceIds::new(&*env),
            started_at_us: env.now_us(),
            stopping: stopping.clone(),
            calls_end: calls_end.clone(),
        };
        let app = App::new(config, parts);

        tracing::info!(
            version = build::VERSION,
            git_branch = build::GIT_BRANCH,
            git_commit = build::GIT_COMMIT,
            listen = %address,
            data_dir = %config.storage.data_dir,
            backend = %config.storage.backend,
            durability = %config.storage.durability,
            data_size_bytes = engine.data_size_bytes(),
            dev = config.server.dev,
            tls = config.tls.is_on(),
            "kalamdb-server started"
        );
        if !address.ip().is_loopback() && !config.tls.is_on() {
            tracing::warn!(
                "other machines can reach {address}, and nothing is encrypted: passwords, tokens and rows can be read on the \
                 way. Set tls.cert_file and tls.key_file, or have a proxy do TLS"
            );
        }
        if config.server.dev {
            tracing::warn!(
                "development mode: every program of this machine may call as user '{}', role {}",
                config.server.dev_user,
                config.server.dev_role
            );
        }
        let connections = tokio::spawn(listener.run(app, tls.clone(), stopping.clone(), calls_end));
        let log_interval = Duration::from_secs(config.log.data_size_interval_s);
        let look_every = Duration::from_millis(config.tls.reload_interval_ms);
        let mut upkeep = vec![
            tokio::spawn(upkeep(Arc::clone(&engine), health.clone(), metrics, log_interval)),
            tokio::spawn(identity::watch(Arc::clone(engine.users()), Arc::clone(identity.grants()), env)),
            tokio::spawn(Arc::clone(identity.tokens()).keep_keys_fresh(look_every)),
        ];
        upkeep.extend(tls.map(|tls| tokio::spawn(tls.keep_fresh(look_every))));
        let flush_timeout = Duration::from_secs(config.shutdown.flush_timeout_s);
        Ok(Self { address, engine, health, stopping, connections, upkeep, first_key, flush_timeout })
    }

    /// The API key of the administrator that this start created, if it created one: on the first start of a database, but
    /// for `--dev`. It is nowhere else, and here once.
    pub fn take_first_key(&mut self) -> Option<String> {
        self.first_key.take()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: accepts no more connections, ends live queries with a resume token, lets calls under way finish within `server.shutdown_grace_ms`, ends what
    /// remains, flushes tables within `shutdown.flush_timeout_s`, and closes the engine. Everything acknowledged is
    /// durable when this returns, flushed or not.
    pub async fn stop(self) {
        tracing::info!("stopping");
        self.upkeep.iter().for_each(JoinHandle::abort);
        set_serving(&self.health, false).await;
        self.stopping.cancel();
        self.engine.end_live_queries();
        if let Err(error) = self.connections.await {
            tracing::error!("the listener failed: {error}");
        }
        let engine = self.engine;
        if !self.flush_timeout.is_zero() {
            engine.flush_before_close(self.flush_timeout).await;
        }
        // Closing waits for the disk, and the engine has threads that must not be joined from here.
        if let Err(error) = tokio::task::spawn_blocking(move || engine.close()).await {
            tracing::error!("the engine failed to close: {error}");
        }
        tracing::info!("stopped");
    }
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> StartError {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use; stop the other program or choose another port with --listen".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose another with --listen".to_owned()
        }
        io::ErrorKind::PermissionDenied => "not permitted; choose a port above 1023 with --listen".to_owned(),
        _ => error.to_string(),
    };
    StartError(format!("cannot listen on {address}: {what}"))
}

async fn open_engine(
    loaded: &LoadedConfig,
    env: Arc<dyn Env>,
    hooks: Arc<dyn JobHooks>,
) -> Result<Arc<Engine>, StartError> {
    let settings = loaded.config.engine_settings();
    let table = loaded.settings();
    let opened = tokio::task::spawn_blocking(move || Engine::open_with_hooks(settings, table, env, hooks)).await;
    let failed = |reason: String| {
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        StartError(format!("cannot open the data in {}: {reason}", loaded.config.storage.data_dir))
    };
    match opened {
        Ok(Ok(engine)) => Ok(engine),
        Ok(Err(error)) => Err(failed(match error.detail() {
            Some(detail) => detail.to_owned(),
            None => error.message().to_owned(),
        })),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Gives a database without users an administrator; answers its key. With `--dev`, who calls from this machine can create
/// users.
async fn first_administrator(config: &Config, engine: &Engine) -> Result<Option<String>, StartError> {
    let users = engine.users();
    let failed =
        |error: kalamdb_engine::Error| StartError(format!("the first administrator cannot be created: {error}"));
    if config.server.dev || !users.is_empty().map_err(failed)? {
        return Ok(None);
    }
    let (user, key) = users.create_first_administrator().await.map_err(failed)?;
    tracing::info!(user_id = user.user_id.as_str(), "the first start: an administrator was created");
    Ok(Some(key))
}

fn open_identity(
    config: &Config,
    dev_caller: Option<Caller>,
    engine: &Engine,
    env: &Arc<dyn Env>,
) -> Result<Arc<Identity>, StartError> {
    let folder = match config.storage.backend {
        BackendName::Rocksdb => Some(Path::new(&config.storage.data_dir)),
        BackendName::Memory => None,
    };
    let lifetime = Duration::from_secs(config.auth.token_lifetime_s);
    let own_tokens = OwnTokens::open(folder, lifetime, env.as_ref()).map_err(StartError)?;
    let parts = IdentityParts {
        dev_caller,
        allowed_origins: config.cors.allowed_origins.clone(),
        users: Arc::clone(engine.users()),
        own_tokens: Arc::new(own_tokens),
        env: Arc::clone(env),
    };
    Identity::new(&config.auth, parts).map(Arc::new).map_err(|error| StartError(format!("authentication: {error}")))
}

fn dev_caller(config: &Config) -> Result<Option<Caller>, StartError> {
    if !config.server.dev {
        return Ok(None);
    }
    let user = UserId::new(&config.server.dev_user).map_err(|error| StartError(format!("server.dev_user: {error}")))?;
    Ok(Some(Caller::new(user, config.server.dev_role.into())))
}

/// The health service, saying that all is well.
async fn health() -> (HealthReporter, tonic_health::pb::health_server::HealthServer<HealthService>) {
    let reporter = HealthReporter::new();
    let service = HealthService::from_health_reporter(reporter.clone());
    set_serving(&reporter, true).await;
    (reporter, tonic_health::pb::health_server::HealthServer::new(service))
}

async fn set_serving(health: &HealthReporter, serving: bool) {
    let status = if serving { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
    let services = [
        QueryServiceServer::<QueryApi>::NAME,
        subscribe::SERVICE_NAME,
        FlushServiceServer::<FlushApi>::NAME,
        AdminServiceServer::<AdminApi>::NAME,
        AuthServiceServer::<AuthApi>::NAME,
        flight::SERVICE_NAME,
    ];
    for name in [""].into_iter().chain(services) {
        health.set_service_status(name, status).await;
    }
}

/// What has to be done now and then: metrics, health, and the size of the data.
async fn upkeep(engine: Arc<Engine>, health: HealthReporter, metrics: Metrics, log_interval: Duration) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut serving = true;
    let live = LiveGauges::new();
    let mut sizes = Sizes::new(Arc::clone(&engine), log_interval);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
        live.publish(&engine.live_counters());

        let poisoned = engine.poisoned();
        if poisoned.is_none() != serving {
            serving = poisoned.is_none();
            set_serving(&health, serving).await;
            if let Some(reason) = poisoned {
                tracing::error!("the store refuses writes until the server is restarted: {reason}");
            }
        }
        sizes.look().await;
    }
}
