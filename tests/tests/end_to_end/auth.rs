//! Who may call a server without `--dev`, and until when.
//!
//! | module | what it shows |
//! | --- | --- |
//! | `tokens` | tokens of others: right ones, forged ones, keys that change |
//! | `sessions` | passwords, refresh, logout; guessing |
//! | `revocation` | calls under way end when the right to them does, and how soon |
//! | `tls` | encrypted connections, certificates of clients, reload |
//! | `start` | the first start, metrics, credentials that are none |

mod revocation;
mod sessions;
mod start;
mod tls;
mod tokens;

use kalam_link::process::{ServerProcess, ServerProcessBuilder};
use kalamdb_tests::{client::Client, server::start};

/// The settings of a server without `--dev`.
fn guarded(settings: &[(&str, &str)]) -> ServerProcessBuilder {
    settings.iter().fold(ServerProcess::builder().dev(false), |builder, (key, value)| {
        builder.args(["--set".to_owned(), format!("{key}={value}")])
    })
}

/// A server without `--dev`, and its administrator.
pub async fn server(settings: &[(&str, &str)]) -> (ServerProcess, Client) {
    let server = start(guarded(settings)).await;
    let key = server.first_api_key().await.expect("a first start makes a key");
    let admin = Client::connect(&server.endpoint()).await.api_key(&key);
    (server, admin)
}

/// An API key of a user.
pub async fn key_of(admin: &Client, user: &str) -> String {
    let answer = admin.run(&format!("CREATE API KEY FOR USER \"{user}\"")).await;
    kalamdb_tests::access::find_key(&format!("{answer:?}")).expect("the key is in the answer")
}
