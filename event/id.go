package event

import "crypto/sha256"

const (
	uuidLen  = 36
	hexLower = "0123456789abcdef"
	noHex    = 0xff
)

// hexValue is the value of a hexadecimal digit in upper or lower case, and noHex for every other byte.
var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = noHex
	}
	for i := range 10 {
		t['0'+i] = byte(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = byte(10+i), byte(10+i)
	}
	return t
}()

// uuidAt are the places of the 16 bytes' first digits in the canonical text.
var uuidAt = [16]byte{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// ParseID reads the canonical form of a UUID, 8-4-4-4-12 hexadecimal digits in upper or lower case. It returns false
// for anything else.
func ParseID(s string) (ID, bool) {
	var id ID
	if len(s) != uuidLen || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false
	}
	var bad byte
	for i, at := range uuidAt {
		hi, lo := hexValue[s[at]], hexValue[s[at+1]]
		bad |= hi | lo // a digit's value has no upper bits, noHex has them all
		id[i] = hi<<4 | lo&0xf
	}
	if bad > 0xf {
		return ID{}, false
	}
	return id, true
}

// String returns the canonical form in lower case.
func (id ID) String() string {
	var p [uuidLen]byte
	id.put(&p)
	return string(p[:])
}

// AppendText appends the canonical form in lower case. The error is always nil.
func (id ID) AppendText(dst []byte) ([]byte, error) {
	var p [uuidLen]byte
	id.put(&p)
	return append(dst, p[:]...), nil
}

func (id ID) put(p *[uuidLen]byte) {
	p[8], p[13], p[18], p[23] = '-', '-', '-', '-'
	for i, at := range uuidAt {
		p[at], p[at+1] = hexLower[id[i]>>4], hexLower[id[i]&0xf]
	}
}

// lowerID is ParseID for texts that String gives back byte for byte.
func lowerID(s string) (ID, bool) {
	id, ok := ParseID(s)
	if !ok {
		return id, false
	}
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'F' {
			return id, false
		}
	}
	return id, true
}

// HashID returns the id of an event whose event_id is no UUID: the first 16 bytes of the SHA-256 of its text. It never
// changes. A hash that nobody can aim at, because whoever finds two texts with one hash makes an event vanish as a
// duplicate; processors have instructions for this one (0.1 µs per id).
func HashID(s string) ID {
	sum := sha256.Sum256(bytesOf(s))
	return ID(sum[:])
}
