//! What waits to be written on one connection. Pure.
//!
//! Octets leave at the front and come at the back, perhaps for hours without the buffer ever being empty: what has left
//! must not go on taking room.

/// Capacity that is kept when nothing waits.
const KEPT: usize = 512;

/// Octets to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Output {
    octets: Vec<u8>,
    written: usize,
}

impl Output {
    /// What is to be written next.
    pub(super) fn waiting(&self) -> &[u8] {
        self.octets.get(self.written..).unwrap_or_default()
    }

    /// How many octets wait.
    pub(super) fn len(&self) -> usize {
        self.octets.len() - self.written
    }

    /// The buffer, to append to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.octets
    }

    /// Forgets the first `n` of [`Output::waiting`].
    pub(super) fn wrote(&mut self, n: usize) {
        self.written = (self.written + n).min(self.octets.len());
        // Moving up what waits only when that is the smaller half costs each octet one move at most.
        if self.written * 2 >= self.octets.len() {
            self.octets.drain(..self.written);
            self.written = 0;
        }
        if self.octets.is_empty() {
            // A burst of large answers must not hold its memory for the life of the connection.
            self.octets.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_leave_in_the_order_they_came() {
        let mut output = Output::default();
        output.buffer().extend(0..10);
        output.wrote(3);
        assert_eq!((output.len(), output.waiting()), (7, &[3, 4, 5, 6, 7, 8, 9][..]));
        output.buffer().extend(10..12);
        output.wrote(5);
        assert_eq!(output.waiting(), [8, 9, 10, 11]);
        output.wrote(4);
        assert_eq!((output.len(), output.waiting()), (0, &[][..]));
    }

    #[test]
    fn f07_a_buffer_that_is_never_empty_does_not_grow() {
        let mut output = Output::default();
        output.buffer().resize(64 * 1024, 0);
        for _ in 0..10_000 {
            output.wrote(1000);
            output.buffer().extend([0; 1000]);
            assert_eq!(output.len(), 64 * 1024);
        }
        assert!(output.octets.capacity() <= 4 * 64 * 1024, "{}", output.octets.capacity());
        output.wrote(64 * 1024);
        assert!(output.octets.capacity() <= KEPT);
    }
}
