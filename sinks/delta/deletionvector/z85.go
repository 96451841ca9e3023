package deletionvector

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// z85 are the digits of the encoding that ZeroMQ's RFC 32 calls Z85.
const z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

// decodeZ85 is strict: five digits for each four bytes, and no group above 2^32-1.
func decodeZ85(text string) ([]byte, error) {
	if len(text)%5 != 0 {
		return nil, fmt.Errorf("deletion vector: %d letters of Z85", len(text))
	}
	out := make([]byte, 0, len(text)/5*4)
	for ; text != ""; text = text[5:] {
		n := uint64(0)
		for _, c := range []byte(text[:5]) {
			digit := strings.IndexByte(z85, c)
			if digit < 0 {
				return nil, fmt.Errorf("deletion vector: %q is no letter of Z85", c)
			}
			n = n*85 + uint64(digit)
		}
		if n > 1<<32-1 {
			return nil, fmt.Errorf("deletion vector: %q is no group of Z85", text[:5])
		}
		out = binary.BigEndian.AppendUint32(out, uint32(n))
	}
	return out, nil
}
