//! Modules that take the payload through the pipes, as they should and as they should not.

use super::*;

/// Reads as the protocol wants it, into `taken` beside the module.
const READS: &str = r#"
mkdir "$dir/taken"
while true; do
    line=$(cat stream-next)
    if [ -z "$line" ]; then break; fi
    echo "$line" >>"$dir/lines"
    set -- $line
    cat "$1" >"$dir/taken/$(basename "$1")"
done
"#;

const TIMEOUT: &str = "timeout = \"1s\"";

#[tokio::test]
async fn a_module_that_reads_the_pipes_gets_every_byte() {
    for (sizes, lines) in [
        ("No", "streams/big\nstreams/empty\nstreams/small\n"),
        (
            "Yes",
            "streams/big 3000000\nstreams/empty 0\nstreams/small 5\n",
        ),
    ] {
        let fixture = Fixture::new();
        fixture.does("ProvidePayloadFileSizes", &format!("echo {sizes}"));
        let (call, other) = match sizes {
            "Yes" => ("DownloadWithFileSizes", "Download"),
            _ => ("Download", "DownloadWithFileSizes"),
        };
        fixture.does(call, READS);
        fixture.does(other, "exit 1");
        let big: Vec<u8> = (0..250_u8).cycle().take(3_000_000).collect();
        let files: [(&str, &[u8]); 3] = [("small", b"small"), ("empty", b""), ("big", &big)];
        let (_, module) = fixture.staged_with("1.0", "", "", &files).await;
        module.activate(None).await.unwrap();
        let modules = fixture.host.dir().join("modules");
        assert_eq!(fs::read_to_string(modules.join("lines")).unwrap(), lines);
        for (name, bytes) in files {
            let taken = fs::read(modules.join("taken").join(name)).unwrap();
            assert!(taken == bytes, "{name}");
        }
        for left in ["files", "streams", "stream-next"] {
            assert!(!fixture.tree().join(left).exists(), "{left}");
        }
        assert_eq!(fixture.host.log()[1], call);
    }
}

#[tokio::test]
async fn a_module_that_begins_and_does_not_end_fails_in_download() {
    for (script, told_as) in [
        ("cat stream-next", "left the end of stream-next"),
        ("cat stream-next; head -c 1 streams/a", "left a"),
        (
            "cat stream-next; cat streams/a",
            "left the end of stream-next",
        ),
        (
            "cat stream-next; cat streams/a; cat stream-next; cat streams/b",
            "left the end of stream-next",
        ),
    ] {
        let fixture = Fixture::new();
        fixture.does("Download", script);
        let (_, module) = fixture.staged("1.0", "", "").await;
        let error = told(&module.activate(None).await.unwrap_err());
        assert!(error.contains("began to read the payload"), "{error}");
        // One byte that is read takes all of a small pipe with it, as `head` reads in blocks.
        let is_known = error.ends_with(told_as) || error.ends_with("left the end of stream-next");
        assert!(is_known, "{script}: {error}");
        module.roll_back(None).await.unwrap();
        let expected = ["ProvidePayloadFileSizes", "Download", "Cleanup"];
        assert_eq!(fixture.host.log(), expected, "{script}");
        assert!(fixture.is_over());
    }
}

#[tokio::test]
async fn a_module_that_leaves_bytes_in_a_pipe_has_not_read_them() {
    let fixture = Fixture::new();
    let script = "cat stream-next; exec 3<streams/a; exec 3<&-; sleep 1000";
    fixture.does("Download", script);
    let (_, module) = fixture.staged("1.0", "", "").await;
    let error = told(&module.activate(None).await.unwrap_err());
    assert_eq!(error, "the module began to read the payload and left a");
}

#[tokio::test]
async fn a_module_that_stops_reading_is_ended_at_its_timeout() {
    for script in [
        "exec 3<stream-next; sleep 1000",
        "cat stream-next; exec 3<streams/a; sleep 1000",
        "cat stream-next; sleep 1000",
    ] {
        let fixture = Fixture::new();
        fixture.does("Download", script);
        let big = vec![7; 1 << 20];
        let files: [(&str, &[u8]); 1] = [("a", &big)];
        let (_, module) = fixture.staged_with("1.0", "", TIMEOUT, &files).await;
        let error = told(&module.activate(None).await.unwrap_err());
        assert!(error.contains("did not end within 1s"), "{script}: {error}");
        module.roll_back(None).await.unwrap();
        assert!(fixture.is_over());
    }
}

#[tokio::test]
async fn an_empty_payload_is_the_end_at_once() {
    let fixture = Fixture::new();
    fixture.does("Download", "test -z \"$(cat stream-next)\"");
    let files: [(&str, &[u8]); 1] = [("m", MODULE.as_bytes())];
    let carried = "carried = \"m\"";
    let (_, module) = fixture.staged_with("1.0", "", carried, &files).await;
    module.activate(None).await.unwrap();
}
