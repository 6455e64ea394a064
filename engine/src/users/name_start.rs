//! What usernames that match a LIKE pattern begin with, and how to walk the index of usernames along it.
//!
//! `_` in a pattern stands for any character, and many usernames have one: `LIKE 'user_1%'` asks for more than what begins
//! with `user_1`, but rarely for all that begins with `user`. So the index is walked by leaps (a skip scan): a name that does
//! not match says which is the least one behind it that could.

/// The characters that a username must begin with; `None` stands for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameStart(Vec<Option<char>>);

/// What to do at a username of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It begins as it must: take it, and go on with the next one.
    Take,
    /// No name before this one does.
    SeekTo(String),
    /// No name behind it does.
    End,
}

impl NameStart {
    /// That of the texts that match a LIKE pattern, whose escape character is the backslash.
    pub(super) fn of_pattern(pattern: &str) -> Self {
        let mut start = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            match character {
                '%' => break,
                '_' => start.push(None),
                '\\' => start.extend(characters.next().map(Some)),
                other => start.push(Some(other)),
            }
        }
        Self(start)
    }

    /// The characters before the first that can be any.
    pub(super) fn fixed(&self) -> String {
        self.fixed_from(0).collect()
    }

    /// What to do at a name that begins with what is [`NameStart::fixed`], or is behind such names.
    pub(super) fn step(&self, name: &str) -> Step {
        let mut characters = name.char_indices();
        // Places that can be any, with what is there in this name.
        let mut free: Vec<(usize, usize, char)> = Vec::new();
        for (place, wanted) in self.0.iter().enumerate() {
            match (characters.next(), *wanted) {
                (Some((at, is)), None) => free.push((place, at, is)),
                (Some((_, is)), Some(wanted)) if is == wanted => {}
                (Some((at, is)), Some(wanted)) if is < wanted => {
                    return Step::SeekTo(name[..at].chars().chain(self.fixed_from(place)).collect());
                }
                (Some(_), Some(_)) => {
                    // Only a greater character at a place before can help; the last such place is the nearest.
                    while let Some((place, at, is)) = free.pop() {
                        if let Some(next) = ((is as u32 + 1)..=u32::from(char::MAX)).find_map(char::from_u32) {
                            let begin = name[..at].chars().chain([next]);
                            return Step::SeekTo(begin.chain(self.fixed_from(place + 1)).collect());
                        }
                    }
                    return Step::End;
                }
                (None, wanted) => {
                    // Longer names follow it.
                    let longer = name.chars().chain(if wanted.is_some() { None } else { Some('\0') });
                    return Step::SeekTo(longer.chain(self.fixed_from(place)).collect());
                }
            }
        }
        Step::Take
    }

    fn fixed_from(&self, place: usize) -> impl Iterator<Item = char> {
        self.0.iter().skip(place).map_while(|character| *character)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{NameStart, Step};

    /// The names that are taken on a walk through them in order, and how many were looked at.
    fn walk(pattern: &str, names: &BTreeSet<String>) -> (Vec<String>, usize) {
        let start = NameStart::of_pattern(pattern);
        let (mut taken, mut looks) = (Vec::new(), 0);
        let mut at = names.range(start.fixed()..).next();
        while let Some(name) = at {
            looks += 1;
            at = match start.step(name) {
                Step::Take => {
                    taken.push(name.clone());
                    names.range(format!("{name}\0")..).next()
                }
                Step::SeekTo(next) => {
                    assert!(next > *name, "{pattern}: from {name:?} back to {next:?}");
                    names.range(next..).next()
                }
                Step::End => None,
            };
        }
        (taken, looks)
    }

    fn begins(pattern: &str, name: &str) -> bool {
        let mut characters = name.chars();
        NameStart::of_pattern(pattern).0.iter().all(|wanted| match (characters.next(), wanted) {
            (Some(is), Some(wanted)) => is == *wanted,
            (is, None) => is.is_some(),
            (None, Some(_)) => false,
        })
    }

    #[test]
    fn patterns_say_what_names_begin_with() {
        assert_eq!(NameStart::of_pattern("abc%d").fixed(), "abc");
        assert_eq!(NameStart::of_pattern("a_c").fixed(), "a");
        assert_eq!(NameStart::of_pattern("a\\_c\\%d").fixed(), "a_c%d");
        assert_eq!(NameStart::of_pattern("%c").fixed(), "");
    }

    #[test]
    fn few_names_are_looked_at_where_few_match() {
        let names: BTreeSet<String> = (0..20_000).map(|number| format!("user_{number:05}")).collect();
        let (taken, looks) = walk("user_0123%", &names);
        assert_eq!(taken.len(), 10);
        assert!(looks < 20, "{looks}");
        let (taken, looks) = walk("user__0077", &names);
        assert_eq!(taken, ["user_00077", "user_10077"]);
        assert!(looks < 20, "{looks}");
    }

    proptest! {
        #[test]
        fn a_walk_takes_what_begins_so(
            names in prop::collection::btree_set("[aé_\u{10FFFF}]{0,4}", 0..40),
            pattern in "[aé_%\\\\]{0,4}",
        ) {
            let expected: Vec<String> = names.iter().filter(|name| begins(&pattern, name)).cloned().collect();
            prop_assert_eq!(walk(&pattern, &names).0, expected);
        }
    }
}
