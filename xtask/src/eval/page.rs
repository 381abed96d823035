//! A page whose sections are written one by one; what was not evaluated this time is kept.

pub(super) struct Page {
    headings: Vec<&'static str>,
    sections: Vec<String>,
}

const EMPTY: &str = "Not evaluated yet.\n";

impl Page {
    pub(super) fn read(headings: &[&'static str], text: &str) -> Self {
        let begin = |heading: &&'static str| text.find(heading).map(|at| (at, at + heading.len()));
        let places: Vec<Option<(usize, usize)>> = headings.iter().map(begin).collect();
        let section = |place: &Option<(usize, usize)>| {
            let Some((_, begins)) = *place else { return EMPTY.to_owned() };
            let later = places.iter().flatten().map(|(at, _)| *at).filter(|at| *at >= begins);
            text[begins..later.min().unwrap_or(text.len())].to_owned()
        };
        Self { headings: headings.to_vec(), sections: places.iter().map(section).collect() }
    }

    pub(super) fn set(&mut self, index: usize, text: String) {
        self.sections[index] = text;
    }

    pub(super) fn text(&self, title: &str) -> String {
        let sections = self.headings.iter().zip(&self.sections);
        title.to_owned() + &sections.map(|(heading, text)| format!("{heading}{text}")).collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluating_one_section_keeps_the_others() {
        let headings = ["\n## One\n\n", "\n## Two\n\n"];
        let mut page = Page::read(&headings, "");
        page.set(1, "second\n".into());
        let mut page = Page::read(&headings, &page.text("# Title\n"));
        page.set(0, "first\n".into());
        assert_eq!(page.text("# Title\n"), "# Title\n\n## One\n\nfirst\n\n## Two\n\nsecond\n");
    }
}
