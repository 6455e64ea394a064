//! A real S3 server, moto's, as a child process: `scripts/s3_server.sh` installs and starts it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::http::request;

const RUNNING: &str = "Running on http://";

/// A running S3 server, which keeps everything in memory and takes any credentials.
#[derive(Debug)]
pub struct S3Server {
    child: Child,
    address: SocketAddr,
}

impl S3Server {
    /// Starts a server on a free port.
    ///
    /// # Panics
    /// When it cannot be installed or started.
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Starts a server on a port of the loopback address.
    ///
    /// # Panics
    /// When it cannot be installed or started.
    pub fn start_on(port: u16) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/s3_server.sh");
        let mut command = Command::new(script);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run scripts/s3_server.sh");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut said = Vec::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.split(RUNNING).nth(1).and_then(|address| address.trim().parse().ok());
            said.push(line);
            address
        });
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the S3 server of the tests cannot be started:\n{}", said.join("\n"));
        };
        // Kept read, so that the server never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// When it does not answer as it must.
    pub async fn create_bucket(&self, bucket: &str) {
        let answer = request(&self.address.to_string(), "PUT", &format!("/{bucket}"), &[], b"").await;
        assert_eq!(answer.expect("the S3 server answers").status, 200, "the bucket {bucket} is made");
    }

    /// The keys of a bucket's objects, sorted.
    ///
    /// # Panics
    /// When it does not answer as it must.
    pub async fn keys(&self, bucket: &str) -> Vec<String> {
        let path = format!("/{bucket}?list-type=2&max-keys=1000");
        let answer = request(&self.address.to_string(), "GET", &path, &[], b"").await.expect("the S3 server answers");
        assert_eq!(answer.status, 200, "the bucket {bucket} is listed: {}", answer.text());
        let text = answer.text();
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        keys.map(str::to_owned).collect()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // What has ended cannot be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
