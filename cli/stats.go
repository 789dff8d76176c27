// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"
)

func (e *env) stats() *cobra.Command {
	var all, once bool
	cmd := &cobra.Command{
		Use: "stats [flags] [CONTAINER…]", Short: "Show what containers use: CPU, memory, network, disk, processes",
		Long: "Show what containers use, of all that run unless some are named. On a terminal it goes on until interrupted.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			f, ok := e.out.(*os.File)
			once = once || !ok || !term.IsTerminal(int(f.Fd()))
			for {
				table, err := e.statsTable(cmd.Context(), c, args, all)
				switch {
				case cmd.Context().Err() != nil:
					return nil
				case err != nil:
					return err
				case once:
					_, err := e.out.Write(table)
					return err
				}
				e.out.Write(append([]byte("\x1b[H\x1b[2J"), table...))
			}
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "stopped ones too")
	cmd.Flags().BoolVar(&once, "no-stream", false, "one reading, even on a terminal")
	return cmd
}

// statsTable takes readings of all containers at once; each takes a second, over which CPU use is measured.
func (e *env) statsTable(ctx context.Context, c *client.Client, refs []string, all bool) ([]byte, error) {
	if len(refs) == 0 {
		list, err := c.ContainerList(ctx, client.ContainerListOptions{All: all})
		if err != nil {
			return nil, err
		}
		for _, i := range list.Items {
			refs = append(refs, i.ID)
		}
	}
	rows := make([]container.StatsResponse, len(refs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for i, ref := range refs {
		g.Go(func() error {
			res, err := c.ContainerStats(ctx, ref, client.ContainerStatsOptions{IncludePreviousSample: true})
			if err != nil {
				return err
			}
			defer res.Body.Close()
			return json.NewDecoder(res.Body).Decode(&rows[i])
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "CONTAINER ID\tNAME\tCPU %\tMEM USAGE / LIMIT\tMEM %\tNET I/O\tBLOCK I/O\tPIDS")
	for _, s := range rows {
		fmt.Fprintln(w, statsRow(s))
	}
	err := w.Flush()
	return out.Bytes(), err
}

func statsRow(s container.StatsResponse) string {
	mem := s.MemoryStats.Usage
	if cache := s.MemoryStats.Stats["inactive_file"]; cache < mem {
		mem -= cache
	}
	share := 0.0
	if s.MemoryStats.Limit > 0 {
		share = float64(mem) / float64(s.MemoryStats.Limit) * 100
	}
	var rx, tx, read, write uint64
	for _, n := range s.Networks {
		rx, tx = rx+n.RxBytes, tx+n.TxBytes
	}
	for _, b := range s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(b.Op) {
		case "read":
			read += b.Value
		case "write":
			write += b.Value
		}
	}
	return fmt.Sprintf("%.12s\t%s\t%.2f%%\t%s / %s\t%.2f%%\t%s / %s\t%s / %s\t%d", s.ID, strings.TrimPrefix(s.Name, "/"), cpuShare(s),
		units.BytesSize(float64(mem)), units.BytesSize(float64(s.MemoryStats.Limit)), share,
		units.HumanSizeWithPrecision(float64(rx), 3), units.HumanSizeWithPrecision(float64(tx), 3),
		units.HumanSizeWithPrecision(float64(read), 3), units.HumanSizeWithPrecision(float64(write), 3), s.PidsStats.Current)
}

// cpuShare is the use between two readings, where 100 is one CPU.
func cpuShare(s container.StatsResponse) float64 {
	used := float64(s.CPUStats.CPUUsage.TotalUsage) - float64(s.PreCPUStats.CPUUsage.TotalUsage)
	of := float64(s.CPUStats.SystemUsage) - float64(s.PreCPUStats.SystemUsage)
	if used <= 0 || of <= 0 {
		return 0
	}
	return used / of * float64(max(1, s.CPUStats.OnlineCPUs)) * 100
}
