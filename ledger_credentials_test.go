package coffeebuddy

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/internal/single"
	"coffeebuddy/ledger"

	"github.com/matryer/is"
)

// TestKeptCredentials are waited for once. After that a Vault that hangs holds up nobody, and a
// rotation is noticed within a minute and a read, or at once where the database refuses them.
func TestKeptCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is, began := is.New(t), time.Now()
		takes, now, failure := time.Second, ledger.Credentials{User: "user", Password: "1"}, error(nil)
		k := &keptCredentials{
			read: func(ctx context.Context) (ledger.Credentials, error) {
				select {
				case <-time.After(takes):
					return now, failure
				case <-ctx.Done():
					return ledger.Credentials{}, ctx.Err()
				}
			},
			work: single.Work{Name: "read", Timeout: readTimeout, Log: slog.New(slog.DiscardHandler)},
		}
		none := ledger.Credentials{}
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := k.get(impatient, none)
		is.True(errors.Is(err, context.DeadlineExceeded))
		first, err := k.get(t.Context(), none)
		is.NoErr(err)
		is.Equal(time.Since(began), time.Second) // both waited for the same read
		is.Equal(first, now)

		takes = time.Hour // Vault hangs
		time.Sleep(keptFor)
		for range 3 {
			got, err := k.get(t.Context(), none)
			is.NoErr(err)
			is.Equal(got, first)
		}
		is.Equal(time.Since(began), time.Second+keptFor) // nobody waited
		time.Sleep(readTimeout)
		synctest.Wait()

		takes, now.Password = time.Second, "2"
		second, err := k.get(t.Context(), first) // the database refuses the first ones
		is.NoErr(err)
		is.Equal(second, now)
		got, err := k.get(t.Context(), first) // which another connection still has
		is.NoErr(err)
		is.Equal(got, second)

		now.Password = "3"
		time.Sleep(keptFor)
		got, err = k.get(t.Context(), none)
		is.NoErr(err)
		is.Equal(got, second)
		time.Sleep(time.Second)
		synctest.Wait()
		got, err = k.get(t.Context(), none)
		is.NoErr(err)
		is.Equal(got, now)

		failure = errors.New("sealed")
		_, err = k.get(t.Context(), got) // refused, and there are no others
		is.Equal(err, failure)
		same, err := k.get(t.Context(), none)
		is.NoErr(err)
		is.Equal(same, got)
	})
}
