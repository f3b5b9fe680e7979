//! What the process uses, for `status`.

/// Resident memory in KiB and open descriptors; zero where `/proc` cannot be read.
pub fn read() -> (u64, u32) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss_kib = rss.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0);
    // Less the one that reads the folder.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
    (rss_kib, u32::try_from(open).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn usage_is_read() {
        let (rss_kib, descriptors) = super::read();
        assert!(rss_kib > 100 && descriptors >= 3, "{rss_kib} {descriptors}");
    }
}
