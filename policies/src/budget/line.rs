//! A line: first come, first served. A doubly linked list over links that lie elsewhere, one for each who may ever stand in
//! it, so that to enter, to leave from the middle and to walk costs no allocation and no search.

/// No next one.
const NONE: u32 = u32::MAX;

/// Who stands before and behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    before: u32,
    behind: u32,
    is_in: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { before: NONE, behind: NONE, is_in: false }
    }
}

impl Link {
    /// Whether it stands in its line.
    pub(super) const fn is_in(self) -> bool {
        self.is_in
    }

    /// Who stands behind it.
    pub(super) fn next(self) -> Option<usize> {
        some(self.behind)
    }
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    first: u32,
    last: u32,
    count: u32,
}

impl Default for Line {
    fn default() -> Self {
        Self { first: NONE, last: NONE, count: 0 }
    }
}

impl Line {
    /// Who has waited longest.
    pub(super) fn first(self) -> Option<usize> {
        some(self.first)
    }

    /// How many stand in it.
    pub(super) const fn count(self) -> u32 {
        self.count
    }

    /// Goes to its end, unless it stands in it already.
    pub(super) fn enter(&mut self, links: &mut [Link], index: usize) {
        if links[index].is_in {
            return;
        }
        let name = u32::try_from(index).unwrap_or(NONE);
        links[index] = Link { before: self.last, behind: NONE, is_in: true };
        match some(self.last) {
            Some(last) => links[last].behind = name,
            None => self.first = name,
        }
        self.last = name;
        self.count += 1;
    }

    /// Leaves it, if it stands in it.
    pub(super) fn leave(&mut self, links: &mut [Link], index: usize) {
        let Link { before, behind, is_in } = std::mem::take(&mut links[index]);
        if !is_in {
            return;
        }
        match some(before) {
            Some(before) => links[before].behind = behind,
            None => self.first = behind,
        }
        match some(behind) {
            Some(behind) => links[behind].before = before,
            None => self.last = before,
        }
        self.count -= 1;
    }
}

fn some(name: u32) -> Option<usize> {
    (name != NONE).then_some(name as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_from_the_middle_leaves_the_order() {
        let (mut line, mut links) = (Line::default(), [Link::default(); 5]);
        for index in [3, 0, 4, 0, 1] {
            line.enter(&mut links, index);
        }
        let walk = |line: Line, links: &[Link]| -> Vec<usize> {
            std::iter::successors(line.first(), |&index| links[index].next()).collect()
        };
        assert_eq!((walk(line, &links), line.count()), (vec![3, 0, 4, 1], 4));
        line.leave(&mut links, 0);
        line.leave(&mut links, 2);
        assert_eq!((walk(line, &links), line.count()), (vec![3, 4, 1], 3));
        line.leave(&mut links, 3);
        line.leave(&mut links, 1);
        line.enter(&mut links, 3);
        assert_eq!((walk(line, &links), line.count()), (vec![4, 3], 2));
    }
}
