package config

import (
	"bytes"
	"fmt"
)

// marks are the byte-order marks of the encodings that editors write, longer ones first.
var marks = []struct{ bytes, name string }{
	{"\xef\xbb\xbf", "UTF-8"},
	{"\xff\xfe\x00\x00", "UTF-32 (little-endian)"},
	{"\x00\x00\xfe\xff", "UTF-32 (big-endian)"},
	{"\xff\xfe", "UTF-16 (little-endian)"},
	{"\xfe\xff", "UTF-16 (big-endian)"},
}

// encodingError says that a file is text in another encoding than UTF-8.
type encodingError struct{ name string }

func (e *encodingError) Error() string {
	return fmt.Sprintf("the file is %s; save it as UTF-8", e.name)
}

// withoutMark returns the text without the byte-order mark of UTF-8, which some editors write before it and nobody
// sees. The mark of another encoding is an *encodingError.
func withoutMark(text []byte) ([]byte, error) {
	for _, m := range marks {
		if !bytes.HasPrefix(text, []byte(m.bytes)) {
			continue
		}
		if m.name == "UTF-8" {
			return text[len(m.bytes):], nil
		}
		return nil, &encodingError{m.name}
	}
	return text, nil
}

// utf8Text is withoutMark for a text that is known to hold no NUL: one that does is UTF-16 without a mark.
func utf8Text(text []byte) ([]byte, error) {
	text, err := withoutMark(text)
	if err != nil {
		return nil, err
	}
	switch at := bytes.IndexByte(text, 0); {
	case at < 0:
		return text, nil
	case at%2 == 0:
		return nil, &encodingError{"UTF-16 (big-endian), without a byte-order mark"}
	default:
		return nil, &encodingError{"UTF-16 (little-endian), without a byte-order mark"}
	}
}
