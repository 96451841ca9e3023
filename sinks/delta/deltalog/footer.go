package deltalog

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// CheckFooter tells whether a Parquet file's footer lies within it. The library makes room for as many bytes as the last
// eight of a file say, before it looks: up to 4 GiB for one flipped bit, for which a process may be ended. (It trusts the
// size in a page's header, too; that is at most 2 GiB, and touched only as far as the page goes.)
func CheckFooter(data []byte) error {
	const tail = 8 // length of the footer u32, "PAR1"
	if len(data) < 4+tail || string(data[len(data)-4:]) != "PAR1" {
		return errors.New("not a Parquet file")
	}
	if n := binary.LittleEndian.Uint32(data[len(data)-tail:]); int64(n) > int64(len(data)-4-tail) {
		return fmt.Errorf("a footer of %d bytes in a file of %d", n, len(data))
	}
	return nil
}
