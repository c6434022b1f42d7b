# ratio.gp    speed against the fastest peer by H and B; report.py gives out, train, infer (numbers of lines) and ratio_*.tsv
set terminal svg size 1000,480 font 'Helvetica,13' background '#ffffff'
set output out
load ARG0[:strstrt(ARG0, 'ratio.gp')-1].'style.gp'
set multiplot layout 1,2 title 'Times the speed of the fastest peer, one thread (above 1: ours is the faster)'
set logscale xy
set xrange [28:590]
set xtics (32, 64, 128, 256, 512)
set yrange [0.4:*]
set ytics (0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 50)
set xlabel 'H'
set key top right
set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead lc rgb '#000000' lw 1.2 back
set title 'training (cell, B x T)'
if (train > 0) plot for [i=0:train-1] 'ratio_train.tsv' index i using 1:2 with linespoints lt i+1
set title 'inference'
if (infer > 0) plot for [i=0:infer-1] 'ratio_infer.tsv' index i using 1:2 with linespoints lt i+1
unset multiplot
