package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/matryer/is"
)

func TestThePictureShowsWhatWasMeasured(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	r := good()
	r.Footprint[0].Idle = 13.25
	picture := r.picture()
	is.True(strings.Contains(picture, ">13.2 MiB</text>"))
	is.True(strings.Contains(picture, ">6.00 ms</text>"))
	is.True(strings.Contains(picture, "prefers-color-scheme: dark"))
	decoder := xml.NewDecoder(strings.NewReader(picture))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		is.NoErr(err)
	}
}
