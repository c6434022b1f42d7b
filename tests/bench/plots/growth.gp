# growth.gp    time of a training step as one size grows and the others stay; report.py gives out, kinds ("T B H ..."), series_KIND
# (numbers of lines) and growth_KIND.tsv, whose titles carry the slope of the last four points
count = words(kinds)
columns = count < 3 ? count : 3
rows = (count + 2) / 3
set terminal svg size 360*columns,60+340*rows font 'Helvetica,12' background '#ffffff'
set output out
load ARG0[:strstrt(ARG0, 'growth.gp')-1].'style.gp'
set multiplot layout rows,columns title 'Training step, one thread: growth of its time (both axes logarithmic)'
set logscale xy
set ylabel 'microseconds'
set format y '10^{%T}'
set key bottom right samplen 2
do for [kind in kinds] {
    set xlabel kind
    if (kind eq 'vocabulary') {
        set format x '10^{%T}'; set xtics 10
    } else {
        set format x '%g'; set xtics (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    }
    plot for [i=0:value('series_'.kind)-1] 'growth_'.kind.'.tsv' index i using 1:2 with linespoints lt i+1
}
unset multiplot
