package node

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tributary-es/tributary/internal/server"
)

// TakenError is of Open, where another program has the port of an address.
type TakenError = server.TakenError

// Serve opens a node, says on stderr where it listens, and runs it until ctx ends: the main function of a team's own
// program. A log that has to go on in another life does so.
func Serve(ctx context.Context, config Config) error {
	for {
		err := serveLife(ctx, config)
		var life *LifeError
		if !errors.As(err, &life) || ctx.Err() != nil {
			return err
		}
		config.Life = life.Incarnation
	}
}

func serveLife(ctx context.Context, config Config) (err error) {
	n, err := Open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	fmt.Fprintf(os.Stderr, "serving on http://%s/ and grpc %s, data in %s\n", n.HTTPAddr(), n.GRPCAddr(), n.Data())
	return n.Run(ctx)
}
