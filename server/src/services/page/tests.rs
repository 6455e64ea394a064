use super::*;

fn names() -> Vec<String> {
    (0..250).map(|i| format!("n{i:03}")).collect()
}

#[test]
fn pages_together_are_the_list() {
    for size in [0, 1, 7, 100, 249, 250, 251, 1_000] {
        let mut token = String::new();
        let mut seen = Vec::new();
        loop {
            let (items, next) = page(names(), String::clone, size, &token).unwrap();
            assert!(items.len() <= if size == 0 { 100 } else { size as usize });
            seen.extend(items);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, names(), "page_size {size}");
    }
}

#[test]
fn a_page_goes_on_when_its_last_item_is_gone() {
    let (_, token) = page(names(), String::clone, 10, "").unwrap();
    let rest = names().into_iter().filter(|name| *name != token).collect();
    let (items, _) = page(rest, String::clone, 10, &token).unwrap();
    assert_eq!(items.first().unwrap(), "n010");
}

#[test]
fn sizes_beyond_the_limit_are_refused() {
    assert_eq!(page(names(), String::clone, 1_001, "").unwrap_err().reason(), Reason::InvalidRequest);
    assert_eq!(page(names(), String::clone, u32::MAX, "").unwrap_err().reason(), Reason::InvalidRequest);
}
