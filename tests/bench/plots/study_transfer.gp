# study_transfer.gp    above: gains of a task (row) with another (column), a heat map a set; below: gains by cosine and affinity, a
# colour a set; study_transfer.py gives out, sets, names (A|B|..), transfer_heat.tsv, transfer_cosine.tsv and transfer_affinity.tsv
set terminal svg size 1100,760 noenhanced font 'Helvetica,12' background '#ffffff'
set output out
load ARG0[:strstrt(ARG0, 'study_transfer.gp')-1].'style.gp'
set tics scale 0
set multiplot title 'Points that a task gains by learning with another, both layers shared'
stats 'transfer_heat.tsv' using 3 nooutput
most = abs(STATS_max) > abs(STATS_min) ? abs(STATS_max) : abs(STATS_min)
set palette defined (-1 '#d55e00', 0 '#ffffff', 1 '#0072b2')
set cbrange [-most:most]
unset colorbox
unset grid
unset key
rest = names
do for [i=0:sets-1] {
    set origin i * 1.0 / sets, 0.48
    set size 1.0 / sets, 0.48
    set title rest[:strstrt(rest, '|')-1].' (row: the task, column: its helper)'
    rest = rest[strstrt(rest, '|')+1:]
    plot 'transfer_heat.tsv' index i using 1:2:3:xticlabels(4):yticlabels(5) with image pixels, \
         '' index i using 1:2:(strcol(3) eq 'NaN' ? '' : sprintf('%+.1f', $3)) with labels
}
set tics scale 1
set grid
set key bottom right
set xtics auto
set ytics auto
set ylabel 'gain, points'
set yrange [*<-0.5:0.5<*]
set arrow 1 from graph 0, first 0 to graph 1, first 0 nohead lc rgb '#000000' lw 1 back
do for [k=0:1] {
    set origin k * 0.5, 0
    set size 0.5, 0.47
    set title k ? 'by affinity, each ordered pair' : 'by the cosine of the gradients, mean of both directions'
    set xrange [*<-0.05:0.75<*]
    if (k) {
        unset key
        set nonlinear x via asinh(20 * x) inverse sinh(x) / 20
        set xtics (-1, -0.1, 0, 0.1, 1, 10, 100)
        stats 'transfer_affinity.tsv' using 1 nooutput
        set xrange [1.5 * STATS_min - 0.3:1.5 * STATS_max]
    }
    set xlabel k ? 'per mille of the loss that a step for the helper takes away' : 'cosine'
    plot for [i=0:sets-1] (k ? 'transfer_affinity.tsv' : 'transfer_cosine.tsv') index i using 1:2 with points lt i+1 ps 1
}
unset multiplot
