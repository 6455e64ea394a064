//! Row rules: what plain users see of restricted SHARED tables, and what they may write to them.

mod barrier;
mod grammar;
mod model;
mod reads;
mod writes;

use kalamdb_engine::{CompactionSettings, EngineSettings, HotImageSettings};

use crate::harness::{Client, Db};

/// In memory, with images of few rows and segments of any size.
async fn db() -> Db {
    let mut settings = EngineSettings {
        query_threads: 2,
        hot_image: HotImageSettings { min_rows: 1, chunk_rows: 16, ..HotImageSettings::default() },
        compaction: CompactionSettings { automatic: false, ..CompactionSettings::default() },
        ..EngineSettings::default()
    };
    settings.flush.min_partition_rows = 1;
    Db::with(settings).await
}

/// A new user with these rules.
async fn user(db: &Db, name: &str, rules: &[&str]) -> Client {
    db.admin().run(format!("CREATE USER '{name}' PERMISSIONS ({})", quoted(rules))).await;
    db.user(name)
}

async fn set_rules(db: &Db, name: &str, rules: &[&str]) {
    db.admin().run(format!("ALTER USER '{name}' SET PERMISSIONS ({})", quoted(rules))).await;
}

fn quoted(rules: &[&str]) -> String {
    let quoted = rules.iter().map(|rule| format!("'{}'", rule.replace('\'', "''")));
    quoted.collect::<Vec<_>>().join(", ")
}

/// What no message, plan or answer may show to those who do not see the row it is in.
const SECRET: &str = "the secret of another, which is long enough to lie in a buffer";

/// The table `notes`: rows 1, 3 and 5 are of ana, 2 and 4 of bo. Of bo's rows one has level 5 and one a text that is no
/// number.
async fn notes(db: &Db) {
    db.admin()
        .run(
            "CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, owner TEXT DEFAULT CURRENT_USER(), level INT, body TEXT) \
             ACCESS restricted",
        )
        .await;
    db.admin()
        .run(format!(
            "INSERT INTO notes VALUES (1, 'ana', 1, '10'), (2, 'bo', 5, '{SECRET}'), (3, 'ana', 3, '30'), \
             (4, 'bo', 4, '40'), (5, 'ana', 9, '50')"
        ))
        .await;
}

/// Where the rows of a table are.
#[derive(Debug, Clone, Copy)]
enum Tier {
    Hot,
    Image,
    Cold,
    Mixed,
}

const TIERS: [Tier; 4] = [Tier::Hot, Tier::Image, Tier::Cold, Tier::Mixed];

/// Brings the rows of `notes` there.
async fn bring(db: &Db, tier: Tier) {
    let admin = db.admin();
    match tier {
        Tier::Hot => {}
        Tier::Image => {
            for _ in 0..3 {
                admin.rows("SELECT * FROM notes").await;
            }
        }
        Tier::Cold => {
            admin.run("FLUSH TABLE notes FORCE").await;
        }
        Tier::Mixed => {
            admin.run("FLUSH TABLE notes FORCE; UPDATE notes SET level = level WHERE id IN (2, 3)").await;
        }
    }
}
