//! Version vectors: who speaks what, and whether two tables can be one cluster (P 3.9).

/// Whether a member's present versions are within what `own` understands.
pub fn speaks(vsn: &[u8; 6], own: &[u8; 6]) -> bool {
    (own[0]..=own[1]).contains(&vsn[2]) && (own[3]..=own[4]).contains(&vsn[5])
}

/// A member's versions, for [`verify_protocol`].
pub struct Versions<'a> {
    pub name: &'a str,
    pub alive: bool,
    pub vsn: [u8; 6],
    /// The entry had a version vector at all; without one it has no say in the ranges.
    pub known: bool,
}

/// Everybody must speak what every living one understands (memberlist, verifyProtocol).
pub fn verify_protocol<'a>(all: impl Iterator<Item = Versions<'a>> + Clone) -> Result<(), Box<str>> {
    for (base, what) in [(0, "protocol"), (3, "delegate protocol")] {
        let living = || all.clone().filter(|v| v.alive && v.known);
        let oldest = living().min_by_key(|v| v.vsn[base + 1]);
        let newest = living().max_by_key(|v| v.vsn[base]);
        let max = oldest.as_ref().map_or(u8::MAX, |v| v.vsn[base + 1]);
        let min = newest.as_ref().map_or(0, |v| v.vsn[base]);
        if let (Some(oldest), Some(newest)) = (oldest, newest)
            && max < min
        {
            let (a, b) = (oldest.name, newest.name);
            let (least, greatest) = (oldest.vsn[base], newest.vsn[base + 1]);
            return Err(format!(
                "{a} understands {what} versions {least} to {max} and {b} {min} to {greatest}: no cluster can hold \
                 both (setting \"peers\")"
            )
            .into());
        }
        if let Some(v) = all.clone().find(|v| !(min..=max).contains(&v.vsn[base + 2])) {
            let (name, current) = (v.name, v.vsn[base + 2]);
            let text =
                format!("{name} speaks {what} version {current}, the others understand {min} to {max}");
            return Err(text.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn tables_are_accepted_and_refused_as_the_library_does() {
        let file: Value = serde_json::from_str(include_str!("../../tests/vectors/verify_protocol.json"))
            .expect("vector is JSON");
        for case in file["cases"].as_array().expect("a list") {
            let list = |key: &str, name: &'static str| -> Vec<Versions<'static>> {
                let nodes = case[key].as_array().cloned().unwrap_or_default();
                let versions = |node: Value| {
                    let vsn: Vec<u8> = serde_json::from_value(node["vsn"].clone()).unwrap_or_default();
                    Versions {
                        name,
                        alive: node["state"] == "alive",
                        known: vsn.len() == 6,
                        vsn: vsn.try_into().unwrap_or([0; 6]),
                    }
                };
                nodes.into_iter().map(versions).collect()
            };
            let (local, remote) = (list("local", "local"), list("remote", "remote"));
            let verdict = verify_protocol(local.iter().chain(&remote).map(|v| Versions { ..*v }));
            // Where the old library dies, the newest one says what it should have said.
            let ok = case["ok"].as_bool().or(case["newest"]["ok"].as_bool()).expect("a verdict");
            assert_eq!(verdict.is_ok(), ok, "{}: {verdict:?}", case["name"]);
        }
    }
}
