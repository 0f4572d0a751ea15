package bounded_test

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"coffeebuddy/internal/bounded"

	"github.com/matryer/is"
)

// double grows a buffer from four bytes.
func double(size int64) int64 { return max(4, 2*size) }

func ignore(int) {}

func TestABodyHoldsItsBufferUntilItIsReleased(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	all, others := &bounded.Budget{Limit: 16}, &bounded.Budget{Limit: 8}
	b := bounded.NewBody(all)
	var sizes []int
	is.NoErr(b.Read(iotest.OneByteReader(strings.NewReader("coffee")), 7, double, func(bytes int) { sizes = append(sizes, bytes) }))
	is.Equal(string(b.Text), "coffee")
	is.Equal(sizes, []int{1, 2, 3, 4, 5, 6})
	is.Equal(all.Taken(), int64(8)) // the buffer, not the text

	is.True(b.Move(others))
	is.Equal(all.Taken(), int64(0))
	is.Equal(others.Taken(), int64(8))
	second := bounded.NewBody(all)
	is.NoErr(second.Read(strings.NewReader("tea"), 7, double, ignore))
	is.True(!second.Move(others)) // no room, so that it stays
	is.Equal(all.Taken(), int64(4))

	for range 2 {
		b.Release()
		second.Release()
	}
	is.Equal(all.Taken()+others.Taken(), int64(0))
}

func TestWhatABodyMayNotBe(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	all := &bounded.Budget{Limit: 16}
	b := bounded.NewBody(all)
	is.Equal(b.Read(strings.NewReader(strings.Repeat("x", 9)), 8, double, ignore), bounded.ErrTooLarge)
	is.Equal(all.Taken(), int64(16))
	other := bounded.NewBody(all)
	is.Equal(other.Read(strings.NewReader("x"), 8, double, ignore), bounded.ErrNoRoom)
	b.Release()
	left := errors.New("the sender has left")
	is.Equal(other.Read(iotest.ErrReader(left), 8, double, ignore), left)
	other.Release()
	is.Equal(all.Taken(), int64(0))
}
