package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"coffeebuddy/events"
	"coffeebuddy/internal/fault"

	"github.com/lib/pq"
	"github.com/matryer/is"
)

// TestDiskThatIsFull is [TestFullDisk] on a disk of 1 MiB. What was received before is answered
// as ever, and what was being received is settled.
func TestDiskThatIsFull(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	smallDisk(t, d)
	l := d.ledger(t)
	is.NoErr(l.Check(t.Context()))
	for _, thing := range []string{"TABLE coffeebuddy_ledger", "INDEX coffeebuddy_ledger_pkey", "INDEX coffeebuddy_ledger_sweep"} {
		run(t, d.DB, `ALTER `+thing+` SET TABLESPACE `+d.name)
	}
	before, err := l.Claim(t.Context(), request("before"))
	is.NoErr(err)
	is.NoErr(before.Settle(t.Context(), []byte("record")))
	meanwhile, err := l.Claim(t.Context(), request("meanwhile"))
	is.NoErr(err)

	run(t, d.DB, `CREATE TABLE filler (text text) TABLESPACE `+d.name)
	for err == nil {
		_, err = d.Exec(`INSERT INTO filler VALUES (repeat('x', 1900))`)
	}
	full, ok := errors.AsType[*pq.Error](err)
	is.True(ok && full.Code == "53100")
	err = nil
	for claims := 0; err == nil; claims++ { // until no page has room
		is.True(claims < 1000)
		_, err = l.Claim(t.Context(), request(strconv.Itoa(claims)))
	}
	is.Equal(fault.ReasonOf(err), fault.Unavailable)
	is.True(strings.Contains(err.Error(), "53100"))

	is.NoErr(meanwhile.Settle(t.Context(), []byte("record")))
	for _, id := range []string{"before", "meanwhile"} {
		_, err := l.Claim(t.Context(), request(id))
		answered, ok := errors.AsType[*events.Answered](err)
		is.True(ok)
		is.Equal(string(answered.Record), "record")
	}
	run(t, d.DB, `DROP TABLE filler`)
	_, err = l.Claim(t.Context(), request("after"))
	is.NoErr(err)
}

// smallDisk makes a tablespace of the database's name on a file system of 1 MiB, or skips the test.
func smallDisk(t *testing.T, d database) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a file system of 1 MiB")
	}
	disk := filepath.Join(server.dir, d.name)
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m,mode=0700,uid="+strconv.Itoa(int(server.as.Uid))); err != nil {
		t.Skip("mount a file system of 1 MiB:", err) // root of a container may not
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	run(t, d.DB, `CREATE TABLESPACE `+d.name+` LOCATION '`+disk+`'`)
	t.Cleanup(func() {
		run(t, d.DB, `DROP TABLE IF EXISTS filler, coffeebuddy_ledger`)
		run(t, d.DB, `DROP TABLESPACE `+d.name)
	})
}
