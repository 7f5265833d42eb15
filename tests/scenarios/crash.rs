//! A client that is killed while it writes: every write that returned is there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::{Repo, Value};

/// How often the writer is killed.
const KILLS: u32 = 50;

#[tokio::test]
async fn every_write_that_returned_survives_fifty_kills() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.redb");
    let document = {
        let repo = Repo::open(&store).await.unwrap();
        let handle = repo.create().await.unwrap();
        handle.set("count", Value::counter(0)).await.unwrap();
        let id = handle.id();
        drop(handle);
        repo.close().await;
        id
    };
    let mut random = StdRng::seed_from_u64(50);
    let (mut field, mut text) = (0, 0);
    for kill in 0..KILLS {
        let mut writer = Command::new(rejoin_tests::binary("rejoin-tests-writer"))
            .arg(&store)
            .arg(document.to_string())
            .arg((field.max(text) + 1).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(writer.stdout.take().unwrap());
        let patience = Duration::from_millis(random.random_range(20..150));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(patience);
            writer.kill().unwrap();
            writer.wait().unwrap();
        });
        let mut texts_written = 0;
        for line in output.lines() {
            let line = line.unwrap();
            let (what, number) = line.split_once(' ').unwrap();
            // A kill may cut the last line short; a number cut short is a smaller one, which is a weaker claim.
            let Ok(number) = number.parse::<i64>() else { continue };
            match what {
                "field" => field = field.max(number),
                "text" => {
                    text = text.max(number);
                    texts_written += 1;
                }
                _ => {}
            }
        }
        killer.join().unwrap();

        let repo = Repo::open(&store).await.unwrap();
        let handle = repo.find(document).await.unwrap().unwrap();
        let last = handle.get("last").await.unwrap().and_then(|value| value.as_i64()).unwrap_or(0);
        assert!(last >= field, "kill {kill}: wrote {field}, found {last}");
        let count = handle.get("count").await.unwrap().unwrap().as_i64().unwrap();
        let length = handle.text("text").await.unwrap().unwrap_or_default().len();
        assert!(length >= texts_written, "kill {kill}");
        assert!(usize::try_from(count).unwrap() >= length, "kill {kill}: a text without the increment before it");
        field = field.max(last);
        drop(handle);
        repo.close().await;
    }
    assert!(text > i64::from(KILLS), "the writer got somewhere: {text}");
}
