//! Generated conversations: plausible, and the same on every run.

/// One conversation of one user.
pub(crate) struct Conversation {
    pub(crate) user: String,
    pub(crate) id: String,
    /// Role and content.
    pub(crate) messages: Vec<(&'static str, String)>,
}

/// What people ask about, what they ask, and what an assistant answers.
const TOPICS: [(&str, [&str; 3], [&str; 3]); 6] = [
    (
        "travel",
        [
            "Is there a night train from {place} to {other}?",
            "How early should I book the train to {place}?",
            "What can I see in {place} in {number} hours?",
        ],
        [
            "Yes: it leaves {place} at 21:{number} and has couchettes.",
            "About {number} days ahead is cheapest for {place}.",
            "Start at the old town of {place}, then walk along the river.",
        ],
    ),
    (
        "cooking",
        [
            "How long do lentils need in {number} litres of broth?",
            "What goes with {dish}?",
            "Can I make {dish} without an oven?",
        ],
        [
            "About {number} minutes; taste from time to time.",
            "With {dish} I would serve a green salad and bread.",
            "Yes. A heavy pan with a lid does for {dish}, on low heat.",
        ],
    ),
    (
        "code",
        [
            "Why does my loop stop after {number} rounds?",
            "How do I read a file line by line in {language}?",
            "Is {language} a good choice for a small server?",
        ],
        [
            "The bound is exclusive, so the last round is number {number}.",
            "In {language}, wrap the file in a buffered reader and iterate over its lines.",
            "For a small server {language} is fine; mind how it handles {number} connections.",
        ],
    ),
    (
        "garden",
        [
            "My tomatoes have yellow leaves since {number} days.",
            "When do I plant garlic in {place}?",
            "How often should basil be watered?",
        ],
        [
            "Yellow leaves after {number} days of rain mean too much water.",
            "In {place}, plant garlic in October.",
            "Basil likes a little water every day, from below.",
        ],
    ),
    (
        "music",
        [
            "Which key suits a beginner on the cello?",
            "How do I practise {number} minutes a day without boredom?",
            "Is there a choir in {place}?",
        ],
        [
            "D major: two open strings help the ear.",
            "Split the {number} minutes: scales, one hard passage, one piece for fun.",
            "{place} has several; the chamber choir takes beginners in autumn.",
        ],
    ),
    (
        "plans",
        [
            "Remind me to call {name} in {number} days.",
            "Summarise what {name} and I agreed on.",
            "Draft a short note to {name} about {place}.",
        ],
        [
            "Noted: call {name} in {number} days.",
            "You and {name} agreed to meet in {place} and to share the costs.",
            "Dear {name}, {place} sounds wonderful. Shall we say the {number}th?",
        ],
    ),
];

const FILLERS: [(&str, [&str; 8]); 5] = [
    ("{place}", ["Lisbon", "Ghent", "Tbilisi", "Kyoto", "Porto", "Oslo", "Trieste", "Fez"]),
    ("{other}", ["Madrid", "Paris", "Vienna", "Zagreb", "Prague", "Bern", "Turin", "Lyon"]),
    ("{dish}", ["lasagne", "dal", "ratatouille", "paella", "ramen", "moussaka", "pierogi", "gnocchi"]),
    ("{language}", ["Rust", "Python", "Go", "Kotlin", "Swift", "Elixir", "Zig", "TypeScript"]),
    ("{name}", ["Mira", "Jonas", "Aiko", "Samuel", "Leyla", "Tomas", "Ines", "Noor"]),
];

const FIRST_USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// All conversations of that many users.
pub(crate) fn conversations(users: usize) -> Vec<Conversation> {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut conversations = Vec::new();
    for user in 0..users {
        let name = FIRST_USERS.get(user).map_or_else(|| format!("user_{user:03}"), |name| (*name).to_owned());
        for number in 0..3 + dice.roll(3) {
            let (topic, questions, answers) = TOPICS[dice.roll(TOPICS.len())];
            let mut messages = Vec::new();
            for _ in 0..1 + dice.roll(3) {
                let exchange = dice.roll(questions.len());
                let words = Words::new(&mut dice);
                messages.push(("user", words.fill(questions[exchange])));
                messages.push(("assistant", words.fill(answers[exchange])));
            }
            conversations.push(Conversation { user: name.clone(), id: format!("{topic}-{}", number + 1), messages });
        }
    }
    conversations
}

/// What stands for each placeholder in one exchange, so that the answer fits the question.
struct Words {
    number: usize,
    choices: [usize; FILLERS.len()],
}

impl Words {
    fn new(dice: &mut Dice) -> Self {
        Words { number: 10 + dice.roll(40), choices: FILLERS.map(|(_, words)| dice.roll(words.len())) }
    }

    fn fill(&self, template: &str) -> String {
        let text = template.replace("{number}", &self.number.to_string());
        FILLERS
            .iter()
            .zip(self.choices)
            .fold(text, |text, ((placeholder, words), choice)| text.replace(placeholder, words[choice]))
    }
}

/// SplitMix64: enough for text, and the same on every machine.
struct Dice(u64);

impl Dice {
    /// A number below `sides`, which must not be 0.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}
